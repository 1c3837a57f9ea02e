"""What a data folder can be wrong in: each fault is found, named and explained before training starts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.training.corpus import Corpus, load_corpus
from models.training.experiment import load_experiment
from models.training.manifest import DataError
from models.training.targets import TARGETS
from tests.models.training.data import AUDIO, IMAGE, TEXT, VECTORS, Change, make_data, make_experiment


def load(
    tmp_path: Path, *tables: str, task: str = "classification", change: Change | None = None, training: str = ""
) -> Corpus:
    data = make_data(tmp_path / "data", train=12, val=6, vectors=VECTORS in tables, change=change)
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", task, *tables, training=training))
    return load_corpus(experiment, TARGETS[task](experiment), data, tmp_path / "cache")


def test_the_report_counts_what_is_there(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        del lines[0]["image"], lines[1]["text"]

    corpus = load(tmp_path, IMAGE, TEXT, AUDIO, change=change)
    train = corpus.report.splits["train"]
    assert (train.used, train.total, train.present) == (12, 12, {"image": 11, "text": 11, "audio": 12})
    assert train.combinations == {"image+text+audio": 10, "text+audio": 1, "image+audio": 1}
    assert train.target == {"classes": {"blue": 4, "green": 4, "red": 4}}
    assert "image: in 11 examples, 1 to 1 steps" in corpus.report.text()
    json.dumps(corpus.report.as_json())


def test_batches_hold_the_features_that_serve(tmp_path: Path) -> None:
    corpus = load(tmp_path, IMAGE, AUDIO)
    inputs = corpus.train.inputs(torch.tensor([3, 0]))
    assert inputs["audio"].lengths.tolist() == corpus.train.lengths["audio"][[3, 0]].tolist()
    assert inputs["image"].values.shape == (2, 1, 3, 8, 8)


def _set(split: str, line: int, **fields: Any) -> Change:
    def change(name: str, lines: list[dict[str, Any]]) -> None:
        if name == split:
            lines[line] |= fields

    return change


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (_set("train", 1, image="image/none.png"), "missing files", "train.jsonl, line 2: image/none.png"),
        (_set("train", 1, image="audio/train-0.wav"), "unreadable media", "line 2 (audio/train-0.wav): "),
        (_set("val", 1, image=7), "malformed examples", "val.jsonl, line 2: 'image' must be a string"),
        (_set("val", 1, label=None), "malformed examples", "'label' must be a label"),
        (_set("val", 1, image=None), "examples without a modality", "val.jsonl, line 2"),
        (_set("val", 1, image="image/train-4.png"), "duplicates between train and val", "as train.jsonl, line 5"),
        (
            _set("train", 1, image=["image/train-0.png"] * 2),
            "more items than max_items",
            "2 of image, and 1 may be served",
        ),
        (_set("train", 1, image="aGVs" * 5000), "missing files", "line 2: aGVsaGVs"),
        (_set("train", 4, image="image/train-1.png"), "examples listed twice", "line 5 (image/train-1.png): as line 2"),
        (_set("train", 1, label="violet"), "rare classes", "'violet' has 1"),
    ],
)
def test_faults_that_are_reported(tmp_path: Path, change: Change, kind: str, said: str) -> None:
    corpus = load(tmp_path, IMAGE, change=change, training="left_out = 0.3")
    assert list(corpus.report.faults.found) == [kind]
    assert said in corpus.report.text()
    kept = ("rare classes", "duplicates between train and val", "examples listed twice")
    left_out = 0 if kind in kept else 1
    assert sum(split.total - split.used for split in corpus.report.splits.values()) == left_out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_set("val", 1, label="violet"), "labels unseen in training: 1. .*\n  val.jsonl: 'violet' has 1"),
        (_set("train", 1, video="vectors/nan.npy"), "not finite: 1. .*\n  train.jsonl, line 2 .*NaN"),
        (lambda split, lines: lines.clear(), "train.jsonl has no examples"),
        (
            lambda split, lines: [line.pop("video") for line in lines],
            "12 of 12 examples of train.jsonl cannot be used",
        ),
        (lambda split, lines: [line.update(label="red") for line in lines], "too few classes"),
        (lambda split, lines: [line.update(video="no.npy") for line in lines[:6]], "6 of 12 examples .* `left_out`"),
    ],
)
def test_faults_that_stop_at_once(tmp_path: Path, change: Change, said: str) -> None:
    (tmp_path / "data" / "vectors").mkdir(parents=True)
    np.save(tmp_path / "data" / "vectors" / "nan.npy", np.array([[0, 1, np.nan, 2]], np.float32))
    with pytest.raises(DataError, match=said):
        load(tmp_path, VECTORS, change=change)


def test_a_modality_that_no_example_has_stops(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            del line["audio"]

    said = r"modalities that the data lack: 1\. Remove \[modalities.NAME\].*\n.*audio or video"
    with pytest.raises(DataError, match=said):
        load(tmp_path, IMAGE, AUDIO, change=change)


@pytest.mark.parametrize(
    ("task", "change", "said"),
    [
        ("regression", _set("train", 1, value=float("nan")), "'value' must be a finite number"),
        (
            "regression",
            _set("train", 1, value=1e300),
            "train.jsonl, line 2: 'value' must be a finite number, or a list",
        ),
        ("regression", _set("train", 1, value=[10**400]), "up to 1e+30 on either side of 0"),
        ("transcription", _set("train", 1, target_text=""), "'target_text' must be a sentence"),
        ("captioning", _set("train", 1, captions={"en": []}), "at least one caption in 'en'"),
    ],
)
def test_targets_of_other_tasks(tmp_path: Path, task: str, change: Change, said: str) -> None:
    assert said in load(tmp_path, IMAGE, task=task, change=change).report.text()


@pytest.mark.parametrize(("offset", "scale"), [(1e9, 1), (0, 1e-40)])
def test_targets_that_float32_cannot_tell_apart_are_refused(tmp_path: Path, offset: float, scale: float) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["value"] = offset + scale * line["value"]

    with pytest.raises(
        DataError, match=r"too alike for float32: 1\. Subtract a constant.*\n.*'value' has a standard dev"
    ):
        load(tmp_path, TEXT, task="regression", change=change)


def test_captions_of_every_language_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'zh' in 1 examples"):
        load(tmp_path, IMAGE, task="captioning", change=_set("train", 1, captions={"en": ["a"]}))


@pytest.mark.parametrize(("line", "said"), [("{", "line 3, is not JSON"), ("[]", "line 3, must hold a JSON object")])
def test_a_broken_manifest_is_named_by_line(tmp_path: Path, line: str, said: str) -> None:
    data = make_data(tmp_path / "data", train=2, val=2)
    with (data / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", "classification", IMAGE))
    with pytest.raises(DataError, match=said):
        load_corpus(experiment, TARGETS["classification"](experiment), data, tmp_path / "cache")
