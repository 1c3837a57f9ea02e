"""Answers of each task, from media to result."""

import io
import json
import math
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.config import HEADS_OF, CheckpointConfig, Task
from models.features import Modality
from models.features.text import join
from models.media import MediaLimits
from models.pipeline import Bundle, Pipeline
from models.sequence import pad
from models.tasks import TASKS
from tests.models.tasks.checkpoints import checkpoint, described, pipeline
from tests.support import tiny_config, tiny_tokenizer

RECURRENT = {"type": "recurrent", "hidden": 8}
CLASSES = {"type": "classification", "classes": 3}
LABELS = ["one", "two", "three"]
WORDS = {"type": "transcription", "vocabulary": tiny_tokenizer().size}
NEXT = {"type": "language-model", "vocabulary": tiny_tokenizer().size}
TEXT: dict[Modality, list[bytes | str]] = {"text": ["a dog runs in the snow"]}


def npy(steps: int = 7, seed: int = 0) -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(seed).normal(size=(steps, 3)).astype(np.float32))
    return file.getvalue()


def answer(served: Pipeline, bundle: Bundle, **asked: Any) -> dict[str, Any]:
    return json.loads(served.answer(bundle, **asked).model_dump_json(exclude_none=True))  # type: ignore[no-any-return]


def events(served: Pipeline, bundle: Bundle, **options: object) -> list[dict[str, Any]]:
    features = served.features(served.decode(bundle, MediaLimits()))
    return list(served.stream(features, served.options.model_validate(options)))


def test_every_task_has_heads_and_a_way_to_answer() -> None:
    assert set(get_args(Task)) == TASKS.keys() == HEADS_OF.keys()


EACH: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "classification": (CLASSES, {"labels": LABELS}),
    "regression": ({"type": "regression"}, {}),
    "embedding": ({"type": "embedding", "size": 4}, {}),
    "transcription": (WORDS, {"fusion": RECURRENT, "defaults": {"seconds_per_step": 0.04}}),
}


@pytest.mark.parametrize("task", EACH)
def test_an_answer_looks_like_its_example_and_fits_its_schema(task: str) -> None:
    head, rest = EACH[task]
    served = pipeline(described(task, head, "audio", "text", **rest))
    served.warm_up()
    found = answer(served, TEXT | {"audio": [npy()]})
    assert found.keys() == served.example.keys()
    assert found["modalities"].keys() == {"audio", "text"}
    served.result.model_validate(served.example)
    assert served.options.model_json_schema()["properties"].keys() == served.options.model_fields.keys()


# Classification


def test_labels_come_with_probabilities_most_probable_first() -> None:
    served = pipeline(described("classification", CLASSES, "text", labels=LABELS))
    found = answer(served, TEXT)["predictions"]
    values = [prediction["probability"] for prediction in found]
    assert sum(values) == pytest.approx(1)
    assert values == sorted(values, reverse=True)
    assert {prediction["label"] for prediction in found} == set(LABELS)
    assert len(answer(served, TEXT, top_k=2)["predictions"]) == 2
    assert not served.explains


def test_a_temperature_calibrates_without_changing_the_order() -> None:
    plain = pipeline(described("classification", CLASSES, "text", labels=LABELS), loud=4)
    cooled = described("classification", CLASSES, "text", labels=LABELS, defaults={"temperature": 2.5})
    before, after = (
        {p["label"]: p["probability"] for p in answer(served, TEXT)["predictions"]}
        for served in (plain, pipeline(cooled, loud=4))
    )
    assert list(before) == list(after)
    logits = torch.tensor([math.log(value) for value in before.values()])
    torch.testing.assert_close(torch.tensor(list(after.values())), (logits / 2.5).softmax(0), atol=1e-5, rtol=0)


def test_each_step_gets_labels_of_its_own() -> None:
    config = described("classification", CLASSES | {"per": "step"}, "audio", fusion=RECURRENT, labels=LABELS)
    served = pipeline(config, loud=3)
    found = answer(served, {"audio": [npy(5)]}, top_k=1)
    assert len(found["steps"]) == 5
    assert all(len(step["predictions"]) == 1 for step in found["steps"])
    # A causal network says the same about the first steps, whatever follows.
    assert answer(served, {"audio": [npy(3)]}, top_k=1)["steps"] == [
        {"predictions": [{"label": p["label"], "probability": pytest.approx(p["probability"], abs=1e-5)}]}
        for step in found["steps"][:3]
        for p in step["predictions"]
    ]


def test_the_votes_of_a_decision_explain_it() -> None:
    decision = {"type": "decision", "outputs": 3}
    config = described(
        "classification", decision, "audio", "text", fusion=decision | {"combine": "mean"}, labels=LABELS
    )
    served = pipeline(config)
    assert served.explains
    assert not served.draws
    both = answer(served, TEXT | {"audio": [npy()]}, explain=True)
    votes = both["explanation"]["votes"]
    assert votes.keys() == {"audio", "text"}
    mean = {
        label: sum(p["probability"] for vote in votes.values() for p in vote if p["label"] == label) / 2
        for label in LABELS
    }
    for prediction in both["predictions"]:
        assert prediction["probability"] == pytest.approx(mean[prediction["label"]], abs=1e-6)
    assert answer(served, TEXT, explain=True)["explanation"]["votes"].keys() == {"text"}
    assert "explanation" not in answer(served, TEXT)


def test_the_vote_of_all_that_was_posted_is_the_calibrated_answer() -> None:
    decision = {"type": "decision", "outputs": 3}
    config = described(
        "classification", decision, "audio", "text", fusion=decision, labels=LABELS, defaults={"temperature": 3}
    )
    alone = answer(pipeline(config), TEXT, explain=True)
    assert alone["explanation"]["votes"]["text"] == [
        each | {"probability": pytest.approx(each["probability"], abs=1e-6)} for each in alone["predictions"]
    ]


# Regression


def test_numbers_are_in_the_datas_unit() -> None:
    loaded = checkpoint(described("regression", {"type": "regression"}, "text"))
    before = answer(Pipeline(loaded, runtime="torch"), TEXT)["value"]
    head: Any = loaded.network.head
    head.fit(torch.tensor([[100.0], [300.0]]))
    assert answer(Pipeline(loaded, runtime="torch"), TEXT)["value"] == pytest.approx(200 + 100 * before, rel=1e-5)


def test_several_numbers_and_numbers_by_step() -> None:
    assert (
        len(answer(pipeline(described("regression", {"type": "regression", "outputs": 4}, "text")), TEXT)["values"])
        == 4
    )
    head = {"type": "regression", "outputs": 2, "per": "step"}
    served = pipeline(described("regression", head, "audio", fusion=RECURRENT))
    assert np.shape(answer(served, {"audio": [npy(5)]})["steps"]) == (5, 2)


def test_a_decision_of_one_number_is_a_regression() -> None:
    decision = {"type": "decision", "outputs": 1}
    config = described("regression", decision | {"kind": "regression"}, "audio", "text", fusion=decision)
    assert isinstance(answer(pipeline(config), TEXT)["value"], float)


# Embedding


def test_two_posted_modalities_have_a_similarity_and_one_has_none() -> None:
    served = pipeline(described("embedding", {"type": "embedding", "size": 4, "fused": True}, "audio", "text"))
    both = answer(served, TEXT | {"audio": [npy()]})
    assert both["embeddings"].keys() == {"audio", "text", "fused"}
    audio, text = np.array(both["embeddings"]["audio"]), np.array(both["embeddings"]["text"])
    assert np.linalg.norm(audio) == pytest.approx(1, abs=1e-5)
    assert both["similarity"] == pytest.approx(float(audio @ text), abs=1e-5)
    one = answer(served, TEXT)
    assert "similarity" not in one
    assert one["embeddings"]["text"] == pytest.approx(both["embeddings"]["text"], abs=1e-5)


# Transcription


def said(served: Pipeline, text: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network hear the words of ``text`` at every third step, the last one twice as long."""
    tokenizer = tiny_tokenizer()
    tokens = tokenizer.encode(text)
    scores = torch.full((1, steps, tokenizer.size), 1e-3)
    scores[..., tokenizer.pad] = 0.5
    for place, token in enumerate(tokens):
        scores[0, 3 * place, token] = 9.0
    scores[0, 3 * len(tokens) - 2, tokens[-1]] = 9.0
    monkeypatch.setattr(served.network.head, "forward", lambda encoded: (scores / scores.sum(2, keepdim=True)).log())


@pytest.mark.parametrize("looks_ahead", [True, False])
def test_words_have_times_and_probabilities(looks_ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    fusion = RECURRENT | {"bidirectional": looks_ahead}
    served = pipeline(described("transcription", WORDS, "audio", fusion=fusion, defaults={"seconds_per_step": 0.04}))
    assert served.network.causal is not looks_ahead
    said(served, "a dog runs", 12, monkeypatch)
    found = answer(served, {"audio": [npy(12)]})
    assert found["text"] == "a dog runs"
    times = [(word["word"], word["start"], word["end"]) for word in found["words"]]
    assert times == [("a", 0.0, 0.04), ("dog", 0.12, 0.16), ("runs", 0.24, 0.32)]
    assert all(0.9 < word["probability"] <= 1 for word in found["words"])


def test_without_a_steps_length_words_have_no_times() -> None:
    served = pipeline(described("transcription", WORDS, "audio", fusion=RECURRENT), loud=20)
    words = answer(served, {"audio": [npy(12)]})["words"]
    assert words
    assert all(word.keys() == {"word", "probability"} for word in words)
    assert served.example["words"][0].keys() == {"word", "probability"}


def test_a_grammar_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    head = WORDS | {"grammar": [["a", "the"], ["snow", "grass"], ["runs"]]}
    served = pipeline(described("transcription", head, "audio", fusion=RECURRENT))
    said(served, "a dog runs", 12, monkeypatch)
    assert answer(served, {"audio": [npy(12)]}, grammar=False)["text"] == "a dog runs"
    first, second, third = answer(served, {"audio": [npy(12)]})["text"].split()
    assert (first, third) == ("a", "runs")
    assert second in ("snow", "grass")
    assert "grammar" not in pipeline(described("transcription", WORDS, "audio", fusion=RECURRENT)).options.model_fields


@pytest.mark.parametrize("word", ["cat", "a dog"])
def test_a_grammars_word_must_be_in_the_vocabulary(word: str) -> None:
    head = WORDS | {"grammar": [["a"], ["dog", word]]}
    with pytest.raises(ValueError, match=rf"grammar, place 2: '{word}' is not one word of tokenizer.json"):
        pipeline(described("transcription", head, "audio", fusion=RECURRENT))


@pytest.mark.parametrize("grammar", [[], [["a", "the"], ["dog", "snow"], ["runs", "on"]]])
def test_streamed_words_add_up_to_the_transcription(grammar: list[list[str]]) -> None:
    served = pipeline(described("transcription", WORDS | {"grammar": grammar}, "audio", fusion=RECURRENT), loud=8)
    for seed in range(4):
        *told, last = events(served, {"audio": [npy(12, seed)]}, beam_size=4)
        assert last["result"] == answer(served, {"audio": [npy(12, seed)]}, beam_size=4)
        assert [event["index"] for event in told] == list(range(len(told)))
        assert [event["token"] for event in told] == [word["word"] for word in last["result"]["words"]]
        assert told[-1]["text"] == last["result"]["text"]


def test_a_batchs_texts_are_those_of_its_rows() -> None:
    served = pipeline(described("transcription", WORDS, "audio", fusion=RECURRENT), loud=8)
    rows = [served.features(served.decode({"audio": [npy(n, n)]}, MediaLimits())).tensors["audio"] for n in (12, 5)]
    task: Any = served.task
    with torch.inference_mode():
        texts = task.best(served.network.encode({"audio": pad(rows)}), served.options())
    assert texts == [answer(served, {"audio": [npy(n, n)]})["text"] for n in (12, 5)]


# Generation


def test_a_text_goes_on_the_same_way_with_the_same_seed() -> None:
    served = pipeline(described("generation", NEXT, "text"), loud=3)
    first = answer(served, TEXT, seed=1, max_length=12)
    assert first == answer(served, TEXT, seed=1, max_length=12)
    assert first != answer(served, TEXT, seed=2, max_length=12)
    assert first["modalities"] == {"text": {"contribution": 1.0}}
    greedy = answer(served, TEXT, temperature=0, max_length=12)
    assert greedy == answer(served, TEXT, top_k=1, max_length=12)


def test_generation_carries_the_state_instead_of_reading_again() -> None:
    loaded = checkpoint(described("generation", NEXT, "text"), loud=3)
    served = Pipeline(loaded, runtime="torch")
    found = answer(served, {"text": ["a dog"]}, temperature=0, max_length=6)
    tokenizer = tiny_tokenizer()
    head: Any = loaded.network.head
    tokens, total = tokenizer.encode("a dog"), 0.0
    for _ in range(6):
        encoder = loaded.network.encoders["text"]
        ids = torch.tensor([tokens])
        scores = head.score(encoder(ids, torch.tensor([len(tokens)])).sequence[0, -1]).log_softmax(0)
        tokens.append(int(scores.argmax()))
        total += float(scores.max())
        if tokens[-1] == tokenizer.end:
            break
    assert found["text"] == join(tokenizer.words(token for token in tokens[2:] if token != tokenizer.end))
    assert found["log_probability"] == pytest.approx(total, abs=1e-3)


def test_generated_tokens_are_told_one_by_one() -> None:
    served = pipeline(described("generation", NEXT, "text"), loud=3)
    choices: list[dict[str, Any]] = [{"seed": 4}, {"temperature": 0}, {"seed": 4, "top_k": 2}]
    for options in choices:
        *told, last = events(served, TEXT, max_length=9, **options)
        assert last["result"] == answer(served, TEXT, max_length=9, **options)
        assert [event["index"] for event in told] == list(range(len(told)))
        assert (told[-1]["text"] if told else "") == last["result"]["text"]


def test_a_prompt_of_one_word_is_enough() -> None:
    served = pipeline(described("generation", NEXT, "text"))
    assert answer(served, {"text": ["dog"]}, seed=0, max_length=3)["log_probability"] < 0


def test_only_a_causal_encoder_generates() -> None:
    config = described("generation", NEXT, "text").model_dump()
    encoder = {"type": "text-rnn", "hidden": 8, "bidirectional": True, "vocabulary": tiny_tokenizer().size}
    config["network"]["encoders"]["text"] = encoder
    with pytest.raises(ValueError, match="encoder must be causal"):
        pipeline(CheckpointConfig.model_validate(config))


def test_signs_that_are_cut_out_of_their_photo_are_not_drawn_on_it() -> None:
    config = tiny_config().model_dump()
    config["modalities"]["image"]["features"] = {"type": "ink", "size": 32}
    served = pipeline(CheckpointConfig.model_validate(config))
    assert not served.explains
    assert not served.draws


# What does not go together


@pytest.mark.parametrize(
    ("task", "head", "rest", "reason"),
    [
        ("captioning", CLASSES, {}, "needs a head of type 'captioning', not 'classification'"),
        (
            "classification",
            {"type": "regression"},
            {"labels": LABELS},
            "'classification' or 'decision', not 'regression'",
        ),
        ("regression", CLASSES, {}, "'regression' or 'decision', not 'classification'"),
        ("generation", WORDS, {}, "needs a head of type 'language-model'"),
        ("regression", {"type": "decision", "outputs": 1}, {}, "needs a decision head of kind 'regression'"),
        ("classification", CLASSES, {}, "labels belong to classification"),
        ("regression", {"type": "regression"}, {"labels": LABELS}, "labels belong to classification"),
        ("classification", CLASSES, {"labels": ["one", "two"]}, "there are 2 labels, but the head has 3 classes"),
        ("classification", {"type": "decision", "outputs": 2}, {"labels": LABELS}, "3 labels, but the head has 2"),
        ("classification", CLASSES, {"labels": ["one", "two", "one"]}, "'one' is there twice"),
        ("classification", CLASSES, {"labels": LABELS, "defaults": {"temperature": 0}}, "defaults.temperature is 0"),
        ("transcription", WORDS, {"defaults": {"seconds_per_step": "x"}}, "defaults.seconds_per_step is 'x'"),
    ],
)
def test_a_config_whose_parts_do_not_go_together_is_refused(
    task: str, head: dict[str, Any], rest: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        described(task, head, "text", **rest)


@pytest.mark.parametrize(
    ("task", "head", "rest", "reason"),
    [
        ("classification", CLASSES, {"labels": LABELS, "defaults": {"top_k": 9}}, "defaults.top_k: .*equal to 3"),
        ("transcription", WORDS, {"defaults": {"beam_size": 0}}, "defaults.beam_size: .*equal to 1"),
        ("generation", NEXT, {"defaults": {"temperature": 7}}, "defaults.temperature: .*equal to 2"),
        ("generation", NEXT, {"defaults": {"topk": 7}}, r"defaults has an unknown key 'topk': did you mean 'top_k'\?"),
        ("transcription", WORDS, {"defaults": {"temperature": 1}}, "'temperature': known are beam_size, delay, secon"),
        ("embedding", {"type": "embedding", "size": 4}, {"defaults": {"top_k": 1}}, "'top_k': there are none"),
    ],
)
def test_defaults_that_the_task_does_not_read_or_allow_are_refused_before_serving(
    task: str, head: dict[str, Any], rest: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        pipeline(described(task, head, "text", **rest))


def test_a_checkpoints_own_defaults_are_those_of_its_options() -> None:
    defaults = {"seconds_per_step": 0.04, "beam_size": 3, "endpoint": 2.5}
    served = pipeline(described("transcription", WORDS, "audio", fusion=RECURRENT, defaults=defaults))
    assert served.options().model_dump() == {"beam_size": 3, "endpoint": 2.5}
