"""Training goes on from finished checkpoints: their parts, their weights, and the words and classes they know."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from models.checkpoint import Checkpoint, load_checkpoint
from models.config import CheckpointConfig
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.registry import FUSIONS, HEADS
from models.training import cli_train, run
from models.training.experiment import Experiment, ExperimentError
from models.training.manifest import DataError
from models.training.start import Start
from tests.models.training.data import AUDIO, IMAGE, TEXT, make_data, make_experiment

FUSED = '[fusion]\ntype = "concat"\nwidth = 8\n'
BARE = "[modalities.image]\n[modalities.text]\n"
"""Modalities that name no parts of their own."""

OLD = TextTokenizer.build(["red", "green", "thing"], ["en"])
NEW = TextTokenizer.build(["thing", "blue", "red"], ["en", "zh"])


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw_curves", lambda *arguments: None)
    monkeypatch.setattr(run, "draw_confusion", lambda *arguments: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), train=12, val=6)


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """A classifier of two of the three colours, by pictures and texts."""
    folder = tmp_path_factory.mktemp("colours")

    def two(split: str, lines: list[dict[str, Any]]) -> None:
        lines[:] = [line for line in lines if line["label"] != "red"]

    few = make_data(folder / "data", train=12, val=6, change=two)
    toml = make_experiment(folder / "my.toml", "classification", IMAGE, TEXT, FUSED, training="epochs = 2\nseed = 7")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_curves", lambda *arguments: None)
        patch.setattr(run, "draw_confusion", lambda *arguments: None)
        cli_train(str(toml), few, folder / "run")
    return folder / "run" / "checkpoint"


def answered(folder: Path, bundle: Any, **options: Any) -> dict[str, Any]:
    return Pipeline.load(folder).answer(bundle, **options).model_dump()


def config_of(fusion: dict[str, Any], head: dict[str, Any], **own: Any) -> CheckpointConfig:
    labels = own.get("labels")
    vocabulary = own["tokenizer"].size
    encoder = {"type": "text-rnn", "vocabulary": vocabulary, "embedding": 6, "hidden": 4}
    value = {
        "name": "some", "version": "1.0.0", "task": own["task"], "description": "", "labels": labels,
        "modalities": {"text": {"features": {"type": "tokens"}}},
        "network": {"encoders": {"text": encoder}, "fusion": fusion, "head": head},
    }  # fmt: skip
    return CheckpointConfig.model_validate(value)


def classifier(tokenizer: TextTokenizer, labels: list[str], seed: int) -> Checkpoint:
    head = {"type": "classification", "classes": len(labels)}
    config = config_of({"type": "concat", "width": 5}, head, tokenizer=tokenizer, labels=labels, task="classification")
    torch.manual_seed(seed)
    return Checkpoint(config, FusionRNN(config.network), tokenizer, None, None, "abc")


def test_words_and_classes_are_found_again_by_name() -> None:
    old = classifier(OLD, ["a", "b", "c"], 0)
    new = classifier(NEW, ["c", "d", "a"], 1)
    fresh = {name: value.clone() for name, value in new.network.state_dict().items()}
    said = Start((old,)).carry(new.network, new.config, NEW)
    before, after = old.network.state_dict(), new.network.state_dict()
    [words] = [name for name in after if name.endswith("embedding.weight")]
    for word in ("red", "thing", "<unk>", "<en>"):
        assert torch.equal(
            after[words][NEW.words(range(NEW.size)).index(word)], before[words][OLD.words(range(OLD.size)).index(word)]
        )
    for word in ("blue", "<zh>"):
        row = NEW.words(range(NEW.size)).index(word)
        assert torch.equal(after[words][row], fresh[words][row])
    of_classes = [name for name in after if name.startswith("head.") and after[name].shape[0] == 3]
    assert of_classes
    for name in of_classes:
        assert torch.equal(after[name][0], before[name][2])
        assert torch.equal(after[name][1], fresh[name][1])
        assert torch.equal(after[name][2], before[name][0])
    others = set(after) - {words, *of_classes}
    assert others
    for name in others:
        assert torch.equal(after[name], before[name])
    assert said == [f"Goes on from some: {len(others)} of {len(after)} tensors, {1 + len(of_classes)} more in part"]


def networks() -> list[Any]:
    """Each registered fusion with a head that any vector will do for, and each head over one fusion."""
    fusions = [variant for name in FUSIONS.names() for variant in FUSIONS.config(name).variants()]
    heads = [variant for name in HEADS.names() for variant in HEADS.config(name).variants()]
    plain_head, plain_fusion = {"type": "regression"}, {"type": "recurrent", "hidden": 4}
    return [*product(fusions, [plain_head]), *product([plain_fusion], heads)]


TASKS = {"captioning": "captioning", "embedding": "embedding", "language-model": "generation",
         "transcription": "transcription"}  # fmt: skip


@pytest.mark.parametrize(("fusion", "head"), networks())
def test_a_like_network_is_taken_over_whole(fusion: Any, head: Any) -> None:
    """Whatever it is made of, and whatever is registered."""
    fusion, head = (each if isinstance(each, dict) else each.model_dump() for each in (fusion, head))
    if "vocabulary" in head:
        head["vocabulary"] = OLD.size
    if head["type"] == "decision":
        fusion = {"type": "decision", "outputs": head["outputs"]}
    kind = head.get("kind", TASKS.get(head["type"], head["type"]))
    labels = [f"class {number}" for number in range(head.get("classes", head.get("outputs", 0)))]
    own = {"task": kind, "tokenizer": OLD, "labels": labels if kind == "classification" else None}
    config = config_of(fusion, head, **own)
    one, other = FusionRNN(config.network), FusionRNN(config.network)
    Start((Checkpoint(config, one, OLD, None, None, "abc"),)).carry(other, config, OLD)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_it_learns_other_classes_with_the_same_encoders(tmp_path: Path, data: Path, colours: Path) -> None:
    toml = make_experiment(
        tmp_path / "my.toml", "classification", BARE, training="epochs = 1\nbatch_size = 8\nencoder_rate = 0"
    )
    cli_train(str(toml), data, tmp_path / "run", start=[colours])
    before, after = load_checkpoint(colours), load_checkpoint(tmp_path / "run" / "checkpoint")
    assert after.config.modalities == before.config.modalities
    assert after.config.network.fusion == before.config.network.fusion
    assert after.config.labels == ["blue", "green", "red"]
    assert before.tokenizer is not None
    assert after.tokenizer is not None
    known = before.tokenizer.words(range(before.tokenizer.size))
    assert after.tokenizer.words(range(after.tokenizer.size)) == [*known, "red"]
    # What is frozen is as it was, but for the word that is new.
    for name, value in before.network.encoders.state_dict().items():
        assert torch.equal(after.network.encoders.state_dict()[name][: len(value)], value)
    metrics = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())
    assert metrics["start"] == [f"small 1.0.0 ({before.digest[:12]})"]
    assert "--start" in metrics["command"]
    assert "go on from those of small 1.0.0" in (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    assert len(answered(tmp_path / "run" / "checkpoint", {"text": "a red thing"})["predictions"]) == 3


def test_it_begins_with_what_the_checkpoint_knows(tmp_path: Path, colours: Path) -> None:
    """With a learning rate of next to nothing its weights are still the checkpoint's."""
    toml = make_experiment(tmp_path / "my.toml", "classification", BARE, training="epochs = 1\nrate = 1e-9")

    def two(split: str, lines: list[dict[str, Any]]) -> None:
        lines[:] = [line for line in lines if line["label"] != "red"]

    folder = make_data(tmp_path / "data", train=12, val=6, change=two)
    cli_train(str(toml), folder, tmp_path / "run", start=[colours])
    there, here = (load_checkpoint(each).network.state_dict() for each in (colours, tmp_path / "run" / "checkpoint"))
    assert here.keys() == there.keys()
    for name, value in there.items():
        torch.testing.assert_close(here[name], value, atol=1e-6, rtol=0)


def test_each_modality_goes_on_from_the_first_that_has_it(tmp_path: Path, data: Path, colours: Path) -> None:
    toml = make_experiment(tmp_path / "sounds.toml", "regression", AUDIO, FUSED, training="epochs = 1")
    cli_train(str(toml), data, tmp_path / "sounds")
    sounds = tmp_path / "sounds" / "checkpoint"
    plan = Experiment.model_validate(
        {"name": "both", "task": "embedding", "modalities": {"image": {}, "audio": {"encoder": {"dropout": 0.5}}}}
    )
    found = Start.load([colours, sounds]).plan(plan)
    assert found.encoder("image")["channels"] == [4]
    assert found.encoder("audio")["hidden"] == 8
    assert found.encoder("audio")["dropout"] == 0.5
    assert found.features("audio")["n_mels"] == 8
    assert found.fusion == found.head == {}  # neither has the task


def test_a_part_of_another_type_starts_anew(colours: Path) -> None:
    plan = Experiment.model_validate(
        {
            "name": "mine",
            "task": "classification",
            "modalities": {
                "image": {"features": {"type": "ink"}, "encoder": "image-small"},
                "text": {"encoder": {"type": "text-bag"}},
            },
            "fusion": {"type": "recurrent"},
        }
    )
    found = Start.load([colours]).plan(plan)
    assert found.encoder("image") == {"type": "image-small"}
    assert found.encoder("text") == {"type": "text-bag"}
    assert found.fusion == {"type": "recurrent"}


def test_an_encoder_of_other_features_is_not_taken_over(tmp_path: Path, data: Path, colours: Path) -> None:
    """Though it is of the same type and size."""
    image = IMAGE.replace('"pixels"', '"ink"')
    toml = make_experiment(
        tmp_path / "my.toml", "classification", image, TEXT, FUSED, training="epochs = 1\nrate = 1e-9"
    )
    cli_train(str(toml), data, tmp_path / "run", start=[colours])
    before, after = (
        load_checkpoint(folder).network.encoders.state_dict() for folder in (colours, tmp_path / "run" / "checkpoint")
    )
    alike = [name for name in before if before[name].shape == after[name].shape]
    taken = {name.partition(".")[0] for name in alike if torch.allclose(before[name], after[name], atol=1e-6)}
    assert [name for name in alike if name.startswith("image.")]
    assert taken == {"text"}


def test_captions_go_on_with_the_words_that_are_known(tmp_path: Path, data: Path) -> None:
    head = "[head]\nhidden = 8\nembedding = 8\nattention = 4\n"
    settings = "epochs = 1\nbatch_size = 8\nminimum_count = 1"
    toml = make_experiment(tmp_path / "first.toml", "captioning", IMAGE, FUSED, head, training=settings)
    cli_train(str(toml), data, tmp_path / "first")

    def english(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["captions"] = {"en": [f"here is {line['label']}"]}

    folder = make_data(tmp_path / "data", train=12, val=6, change=english)
    toml = make_experiment(tmp_path / "my.toml", "captioning", "[modalities.image]\n", training=settings)
    cli_train(str(toml), folder, tmp_path / "run", start=[tmp_path / "first" / "checkpoint"])
    [caption] = answered(tmp_path / "run" / "checkpoint", {"image": (data / "image" / "val-0.png").read_bytes()})[
        "captions"
    ]
    assert caption["language"] == "en"
    assert set(caption["text"].split()) <= {"here", "is", "red", "green", "blue"}


@pytest.mark.parametrize(
    ("task", "tables", "message"),
    [
        ("regression", (AUDIO,), "nothing can go on from small, which has image, text and the task 'classification'"),
        (
            "regression",
            ('[modalities.text]\nencoder = { type = "text-rnn", hidden = 9, embedding = 9 }\n',),
            "no weights of small fit",
        ),
        ("regression", ("[modalities.text]\nencoder = { hiden = 9 }\n",), "unknown key 'hiden'"),
    ],
)
def test_what_cannot_be_gone_on_from_is_refused(
    tmp_path: Path, data: Path, colours: Path, task: str, tables: tuple[str, ...], message: str
) -> None:
    toml = make_experiment(tmp_path / "my.toml", task, *tables, training="epochs = 1")
    with pytest.raises(ExperimentError, match=message):
        cli_train(str(toml), data, tmp_path / "run", start=[colours])


def test_a_run_that_began_elsewhere_is_not_gone_on_with(tmp_path: Path, data: Path, colours: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", IMAGE, TEXT, FUSED, training="epochs = 1")
    cli_train(str(toml), data, tmp_path / "run", start=[colours])
    with pytest.raises(DataError, match=r"another experiment.*\n  start: .*small 1\.0\.0.* there, none here"):
        cli_train(str(toml), data, tmp_path / "run")


def test_a_recipe_starts_where_it_says_itself(tmp_path: Path, data: Path, colours: Path) -> None:
    with pytest.raises(DataError, match="--start belongs to an experiment"):
        cli_train("digits", data, tmp_path / "run", start=[colours])
