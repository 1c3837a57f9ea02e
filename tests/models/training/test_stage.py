from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.network import FusionRNN
from models.sequence import Padded
from models.training.augmentation import AUGMENTATIONS
from models.training.experiment import ExperimentError, load_experiment
from models.training.objectives import info_nce, max_violation
from models.training.stage import FusionStage, Trained, bucketed, drop_modalities
from models.training.targets import TARGETS
from tests.models.training.data import AUDIO, IMAGE, TEXT, Change, corpus_of, make_data, make_experiment


def make_stage(
    tmp_path: Path, *tables: str, training: str, task: str = "classification", change: Change | None = None
) -> FusionStage:
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", task, *tables, training=training))
    target = TARGETS[task](experiment)
    data = make_data(tmp_path / "data", train=12, val=6, change=change)
    corpus = corpus_of(experiment, target, data, tmp_path / "cache")
    config = experiment.checkpoint(
        head=target.head(corpus.tokenizer),
        vocabulary=corpus.tokenizer.size if corpus.tokenizer else 0,
        vectors={},
        labels=target.labels,
        defaults={},
    )
    torch.manual_seed(0)
    network = FusionRNN(config.network)
    target.prepare(network, config, corpus.tokenizer, corpus.train.targets)
    return FusionStage(Trained(network, experiment, target), experiment, target, corpus)


def gradients(stage: FusionStage) -> dict[str, float]:
    """Norm of the gradient of each encoder after one batch."""
    stage.start_epoch(0)
    loss, _ = stage.loss(torch.arange(8))
    loss.backward()  # type: ignore[no-untyped-call]
    return {
        name: float(sum(p.grad.square().sum() for p in encoder.parameters() if p.grad is not None) ** 0.5)
        for name, encoder in stage.network.encoders.items()
    }


def test_batches_hold_every_example_once_and_like_lengths_together() -> None:
    cost = torch.randint(1, 100, (203,), generator=torch.Generator().manual_seed(1)).tolist()
    batches = bucketed(cost, 8, torch.Generator().manual_seed(2))
    assert sorted(torch.cat(batches).tolist()) == list(range(203))
    padding = sum(8 * max(cost[i] for i in batch) - sum(cost[i] for i in batch) for batch in batches)
    assert padding < 0.25 * sum(cost)
    assert [b.tolist() for b in batches] == [b.tolist() for b in bucketed(cost, 8, torch.Generator().manual_seed(2))]


@pytest.mark.parametrize("count", [5, 8, 9, 16, 17, 161, 321])
def test_a_last_batch_too_small_joins_the_one_before_it(count: int) -> None:
    batches = bucketed([1] * count, 8, torch.Generator().manual_seed(2), least=2)
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    assert sum(len(batch) != 8 for batch in batches) <= 1
    assert all(2 <= len(batch) <= 9 for batch in batches)


def test_one_pair_over_a_batch_is_learned_with_the_others(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, IMAGE, TEXT, training="batch_size = 11\nepochs = 1", task="embedding")
    assert [len(batch) for batch in stage.batches(torch.Generator())] == [12]
    loss, _ = stage.loss(stage.batches(torch.Generator())[0])
    assert bool(loss.isfinite())


def test_a_batch_of_one_pair_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"\[training\] batch_size: .* at least 2, not 1"):
        make_stage(tmp_path, IMAGE, TEXT, training="batch_size = 1\nepochs = 1", task="embedding")


def score(stage: FusionStage, **figures: float) -> float:
    return stage.target.value_of(figures)


def test_of_epochs_that_write_nothing_the_one_of_less_loss_is_better(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, AUDIO, training="", task="transcription")
    stage.network.eval()
    figures = stage.validate()
    assert figures["validation_loss"] > 0
    noise, plateau = score(stage, wer=97, validation_loss=5.3), score(stage, wer=100, validation_loss=2.4)
    babble, words = score(stage, wer=172, validation_loss=2.3), score(stage, wer=40, validation_loss=0.9)
    surer = score(stage, wer=35, validation_loss=1.2)
    assert noise < plateau < babble < words < surer


def test_where_all_pairs_are_found_the_loss_decides(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, IMAGE, TEXT, training="", task="embedding")
    stage.network.eval()
    assert stage.validate()["validation_loss"] > 0
    better = [(90, 80, 1.0), (100, 80, 1.0), (100, 90, 1.0), (100, 100, 0.5), (100, 100, 0.4)]
    scores = [score(stage, recall_at_5=at_5, recall_at_1=at_1, validation_loss=loss) for at_5, at_1, loss in better]
    assert scores == sorted(set(scores))


def repeated(split: str, lines: list[dict[str, Any]]) -> None:
    """Every photo on two lines, with the two texts of its own; the second text of every photo is the same."""
    for place, line in enumerate(lines):
        line["image"] = lines[place - place % 2]["image"]
        line["text"] = f"word{place}" if place % 2 == 0 else "a thing"


def test_a_photo_on_several_lines_is_not_its_own_negative(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, IMAGE, TEXT, training="", task="embedding", change=repeated)
    stage.network.eval()
    rows = torch.arange(4)
    found = stage.target.output(stage.network.encode(stage.corpus.train.inputs(rows)))  # type: ignore[attr-defined]
    # Photos A, A, B, B; texts 0, thing, 2, thing: "a thing" belongs to both photos.
    together = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1], [0, 1, 1, 1], [0, 1, 1, 1]]).bool()
    cosines = found.vectors["image"] @ found.vectors["text"].t()
    torch.testing.assert_close(stage.loss(rows)[0], info_nce(cosines, together, scale=found.scale))


def test_equal_media_do_not_stand_before_each_other_in_recall(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, IMAGE, TEXT, training="", task="embedding", change=repeated)
    # Each medium has the same vector wherever it is listed, and finds one of its partners.
    photos, texts = np.eye(6)[[0, 0, 1, 1, 2, 2]], np.eye(6)[[0, 5, 1, 5, 2, 5]]
    answers = [{"image": photo, "text": text} for photo, text in zip(photos, texts, strict=True)]
    figures = stage.target.figures(answers, stage.corpus.val.targets).values()
    # "a thing" is as far from all photos, all of which are right.
    assert figures["recall_at_1"] == 100


def test_the_hinge_on_the_hardest_negative_can_be_chosen(tmp_path: Path) -> None:
    training = 'contrastive_loss = "max-violation"'
    stage = make_stage(tmp_path, IMAGE, TEXT, training=training, task="embedding")
    stage.network.eval()
    rows = torch.arange(3)
    found = stage.target.output(stage.network.encode(stage.corpus.train.inputs(rows)))  # type: ignore[attr-defined]
    cosines = found.vectors["image"] @ found.vectors["text"].t()
    torch.testing.assert_close(stage.loss(rows)[0], max_violation(cosines))
    assert stage.validate()["validation_loss"] >= 0


def test_a_generation_has_no_target_of_its_own(tmp_path: Path) -> None:
    experiment = load_experiment(
        make_experiment(tmp_path / "my.toml", "generation", TEXT, top='target = "target_text"')
    )
    with pytest.raises(ExperimentError, match="the task 'generation' has no target"):
        TARGETS["generation"](experiment)


def test_of_captions_that_are_all_wrong_the_likelier_ones_are_better(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, IMAGE, training="", task="captioning")
    stage.network.eval()
    assert stage.validate()["validation_loss"] > 0
    better = [(0, 6.0), (0, 4.0), (1, 5.0)]
    scores = [score(stage, cider_d=cider, validation_loss=loss) for cider, loss in better]
    assert scores == sorted(set(scores))


def test_modality_dropout_hides_but_never_the_last_one() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(1, 5, (10_000,))
    inputs = {name: Padded(torch.ones(10_000, 4, 2), lengths) for name in "abc"}
    inputs["c"] = Padded(inputs["c"].values, lengths * (torch.arange(10_000) % 2))
    hidden = drop_modalities(inputs, 0.6)
    present = torch.stack([hidden[name].lengths > 0 for name in "abc"])
    assert bool(present.any(0).all())
    # Each survives with 0.4, or is the one that comes back where all were lost: 0.4 + 0.6 ** m / m.
    assert float(present[0, ::2].float().mean()) == pytest.approx(0.4 + 0.6**2 / 2, abs=0.02)
    assert float(present[0, 1::2].float().mean()) == pytest.approx(0.4 + 0.6**3 / 3, abs=0.02)
    assert not bool(present[2, ::2].any())
    assert torch.equal(hidden["a"].values, inputs["a"].values)


def test_a_row_keeps_one_of_the_modalities_that_suffice_alone_or_all() -> None:
    torch.manual_seed(0)
    inputs = {name: Padded(torch.ones(300, 4, 1), torch.full((300,), 4)) for name in "abc"}
    alone = torch.tensor([[True, False, False], [False, True, True], [False, False, False]]).repeat(100, 1)
    hidden = drop_modalities(inputs, 0.8, alone)
    shown = torch.stack([hidden[name].lengths > 0 for name in "abc"], 1)
    assert bool(shown[0::3, 0].all())
    assert bool(shown[1::3, 1:].any(1).all())
    assert not bool(shown[1::3, 1:].all(1).all())
    assert bool(shown[2::3].all())
    assert 5 < int(shown[0::3, 1].sum()) < 40


@pytest.mark.parametrize("fusion", ["recurrent", "concat"])
def test_transcripts_keep_the_steps_that_spell_them(tmp_path: Path, fusion: str) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line |= {"text": "thing", "target_text": "this one is " + line["label"]}

    stage = make_stage(
        tmp_path, f'[fusion]\ntype = "{fusion}"\n', AUDIO, TEXT,
        training="modality_dropout = 0.9\nepochs = 2", task="transcription", change=change,
    )  # fmt: skip
    stage.start_epoch(1)
    torch.manual_seed(0)
    for _ in range(10):
        loss, _ = stage.loss(torch.arange(12))
        assert float(loss.detach()) < 100


def test_a_word_that_no_transcript_taught_does_not_hide_the_loss_of_the_others(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["text"] = "a thing of zeta"
        if split == "val":
            lines[0]["target_text"] = "zeta is red"

    stage = make_stage(tmp_path, AUDIO, TEXT, training="", task="transcription", change=change)
    stage.network.eval()
    assert 0 < stage.validate()["validation_loss"] < 100


def test_of_a_text_that_is_read_in_part_the_next_word_is_foretold(tmp_path: Path) -> None:
    text = TEXT.replace("[modalities.text]", '[modalities.text]\nfeatures = { type = "tokens", max_tokens = 2 }')

    def change(split: str, lines: list[dict[str, Any]]) -> None:
        lines[0]["text"] = "a red"

    stage = make_stage(tmp_path, text, training="", task="generation", change=change)
    stage.network.eval()
    rows = torch.tensor([0, 1])
    with torch.no_grad():
        loss, _ = stage.loss(rows)
        scores = stage.network.head(stage.network.encode(stage.corpus.train.inputs(rows))).log_softmax(2)
    tokenizer = stage.corpus.tokenizer
    assert tokenizer is not None
    red, green, thing = tokenizer.encode("red green thing")
    wanted = torch.tensor([[red, tokenizer.end], [green, thing]])
    torch.testing.assert_close(loss, -scores.gather(2, wanted.unsqueeze(2)).mean())


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("it was great<br /><br />i liked it", "it was great i liked it"),
        ("won\u00adderful caf&eacute;", "wonderful café"),
        ("&#20013;&#22269;", "中国"),
        ("&amp;lt;", "&lt;"),
    ],
)
def test_a_text_is_foretold_as_it_is_read(tmp_path: Path, written: str, read: str) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["text"] = written

    stage = make_stage(tmp_path, TEXT, training="", task="generation", change=change)
    target: Any = stage.target
    inputs = stage.corpus.train.inputs(torch.arange(2))["text"].values[0].tolist()
    assert target.train[0].tolist() == inputs == stage.corpus.tokenizer.encode(read)  # type: ignore[union-attr]
    assert target.tokenizer.unknown not in inputs
    assert stage.validate()["perplexity"] > 1


@pytest.mark.parametrize(("length", "served"), [(4, 20), (22, 30), (40, 50), (50, 50), (51, 50)])
def test_captions_are_learned_and_served_to_their_end_up_to_the_longest(
    tmp_path: Path, length: int, served: int
) -> None:
    words = "".join(chr(0x4E00 + place) for place in range(length))

    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["captions"] = {"zh": [words]}

    stage = make_stage(tmp_path, IMAGE, training="", task="captioning", change=change)
    target: Any = stage.target
    end = stage.corpus.tokenizer.end  # type: ignore[union-attr]
    assert target.defaults() == {"max_length": served}
    tokens = target.tokens[0][0, 0]
    assert int((tokens != end).sum()) == min(length, 50)
    assert int((tokens == end).sum()) == (length <= 50)
    assert ("captions cut" in stage.corpus.report.faults.found) == (length > 50)
    loss, _ = stage.loss(torch.arange(4))
    assert bool(loss.isfinite())


def test_an_embedding_is_chosen_by_all_pairs(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, AUDIO, IMAGE, TEXT, training="", task="embedding")
    vectors = np.eye(6)
    # Sound and pictures find each other, and neither finds its text.
    answers = [{"audio": vectors[row], "image": vectors[row], "text": vectors[row - 1]} for row in range(6)]
    figures = stage.target.figures(answers, stage.corpus.val.targets).values()
    assert figures["recall_at_1"] == pytest.approx(100 / 3)


def test_no_number_counts_more_because_of_its_unit(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for place, line in enumerate(lines):
            line["value"] = [place % 4, 1000.0 * (place % 3)]

    stage = make_stage(tmp_path, IMAGE, training="", task="regression", change=change)
    truth: Any = stage.corpus.val.targets
    small, large = ([np.array(value) + error for value in truth] for error in ([1.0, 0.0], [0.0, 10.0]))
    scores = [stage.target.value_of(stage.target.figures(answers, truth).values()) for answers in (small, large)]
    assert scores[0] < scores[1] < 0


def test_modality_dropout_rises_from_nothing(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, IMAGE, TEXT, training="modality_dropout = 0.4\nepochs = 5")
    chances = []
    for epoch in range(5):
        stage.start_epoch(epoch)
        chances.append(stage.dropped)
    assert chances == pytest.approx([0, 0.2, 0.4, 0.4, 0.4])


def test_encoders_have_a_rate_of_their_own_or_none(tmp_path: Path) -> None:
    slow = make_stage(tmp_path, IMAGE, TEXT, training="encoder_rate = 1e-5").parameter_groups()
    encoders = make_stage(tmp_path, IMAGE, TEXT, training="encoder_rate = 0")
    frozen = encoders.parameter_groups()
    assert [group["lr"] for group in slow] == [0.01, 1e-5]
    assert len(frozen) == 1
    trained = {id(parameter) for parameter in frozen[0]["params"]}
    assert not trained & {id(parameter) for parameter in encoders.network.encoders.parameters()}
    everything = [id(parameter) for group in slow for parameter in group["params"]]
    assert len(everything) == len(set(everything))


def test_auxiliary_losses_teach_the_encoders_and_scores_for_the_balance_do_not(tmp_path: Path) -> None:
    plain = gradients(make_stage(tmp_path, IMAGE, TEXT, training=""))
    helped = gradients(make_stage(tmp_path, IMAGE, TEXT, training="auxiliary = 1.0"))
    balanced = make_stage(tmp_path, IMAGE, TEXT, training='balance = "ogm-ge"')
    scored = gradients(balanced)
    assert all(abs(helped[name] - plain[name]) > 1e-4 for name in plain)
    assert scored == pytest.approx(plain, rel=1e-4)
    assert set(balanced.scores) == {"image", "text"}
    balanced.after_backward()
    after = {name: next(e.parameters()).grad for name, e in balanced.network.encoders.items()}
    assert all(grad is not None and bool(grad.isfinite().all()) for grad in after.values())


@pytest.mark.parametrize(
    ("task", "training", "said"),
    [("transcription", "auxiliary = 1.0", "auxiliary losses need"), ("regression", 'balance = "ogm-ge"', "balance")],
)
def test_what_a_task_does_not_have_is_refused(tmp_path: Path, task: str, training: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        make_stage(tmp_path, AUDIO, training=training, task=task)


def test_rare_classes_can_weigh_more(tmp_path: Path) -> None:
    stage = make_stage(tmp_path, TEXT, training='class_weights = "balanced"')
    assert stage.target.weights.tolist() == pytest.approx([1, 1, 1])  # type: ignore[attr-defined]
    stage.target.prepare(stage.network, None, None, ["red", "red", "red", "blue"])  # type: ignore[arg-type]
    assert stage.target.weights.tolist() == pytest.approx([4 / 3, 4 / 3, 4 / 9])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_augmentations_change_values_and_keep_shapes(name: str) -> None:
    pixels = torch.randint(0, 256, (3, 3, 10, 10), dtype=torch.uint8)
    x = pixels if name in ("mirror", "shift") else torch.randn(40, 16)
    changed = [AUGMENTATIONS[name](x) for _ in range(20)]
    assert all(found.shape == x.shape and found.dtype == x.dtype for found in changed)
    assert any(not torch.equal(found, x) for found in changed)
    one = AUGMENTATIONS[name](x[:1])
    assert one.shape == x[:1].shape
    assert bool(one.float().isfinite().all())
