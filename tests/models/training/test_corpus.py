"""What a data folder can be wrong in: each fault is found, named and explained before training starts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from models.features.text import TextTokenizer
from models.training import examples
from models.training.corpus import Corpus
from models.training.experiment import load_experiment
from models.training.manifest import DataError
from models.training.report import Faults
from models.training.targets import TARGETS
from tests.models.training.data import AUDIO, IMAGE, TEXT, VECTORS, Change, corpus_of, make_data, make_experiment


def load(
    tmp_path: Path, *tables: str, task: str = "classification", change: Change | None = None, training: str = ""
) -> Corpus:
    data = make_data(tmp_path / "data", train=12, val=6, vectors=VECTORS in tables, change=change)
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", task, *tables, training=training))
    return corpus_of(experiment, TARGETS[task](experiment), data, tmp_path / "cache")


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


def test_the_vocabulary_is_of_texts_as_they_are_read(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["text"] = "won\u00adderful<br />caf&eacute;"
        lines[1]["text"] = "\u00ad"

    corpus = load(tmp_path, TEXT, change=change, training="left_out = 0.3")
    assert corpus.tokenizer is not None
    assert corpus.tokenizer.words(range(3, corpus.tokenizer.size)) == ["café", "wonderful"]
    # What cannot be read is told by line, and not by the vocabulary.
    assert "train.jsonl, line 2" in corpus.report.text()


def test_a_text_that_is_read_and_foretold_counts_once(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for number, line in enumerate(lines):
            line["text"] = "often" if number else "often once"

    data = make_data(tmp_path / "data", train=12, val=6, change=change)
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", "generation", TEXT))
    twice = experiment.training.model_copy(update={"minimum_count": 2})
    experiment = experiment.model_copy(update={"training": twice})
    corpus = corpus_of(experiment, TARGETS["generation"](experiment), data, tmp_path / "cache")
    assert corpus.tokenizer is not None
    assert corpus.tokenizer.words(range(3, corpus.tokenizer.size)) == ["often"]


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
        (lambda split, lines: lines[1].update(label="violet"), "rare classes", "'violet' has 1"),
        (
            lambda split, lines: [line.update(label="red") for line in lines if split == "val"],
            "classes that are not measured",
            "val.jsonl: 'green' has 0",
        ),
        (
            lambda split, lines: [line.update(label="Red") for line in lines[::3]],
            "classes that differ in case only",
            "train.jsonl: 'Red', 'red'",
        ),
        (
            _set("train", 5, image="image/train-1.png"),
            "examples that contradict each other",
            "line 6 (image/train-1.png): another target than line 2",
        ),
    ],
)
def test_faults_that_are_reported(tmp_path: Path, change: Change, kind: str, said: str) -> None:
    corpus = load(tmp_path, IMAGE, change=change, training="left_out = 0.3")
    assert list(corpus.report.faults.found) == [kind]
    assert said in corpus.report.text()
    kept = (
        "rare classes",
        "duplicates between train and val",
        "examples listed twice",
        "examples that contradict each other",
        "classes that are not measured",
        "classes that differ in case only",
    )
    left_out = 0 if kind in kept else 1
    assert sum(split.total - split.used for split in corpus.report.splits.values()) == left_out


def test_what_is_too_long_to_be_served_is_not_called_unreadable(tmp_path: Path) -> None:
    corpus = load(tmp_path, TEXT, change=_set("val", 1, text="long " * 5000), training="left_out = 0.3")
    [(where, said)] = corpus.report.faults.found["media out of bounds"]
    assert (where, said[:27]) == ("val.jsonl, line 2", "The text is longer than 200")
    assert "unreadable media" not in corpus.report.faults.found


def test_spaces_around_a_label_make_no_other_class(tmp_path: Path) -> None:
    corpus = load(tmp_path, IMAGE, change=_set("train", 0, label=" blue\u00a0"))
    assert corpus.report.splits["train"].target == {"classes": {"blue": 4, "green": 4, "red": 4}}


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


def test_a_file_name_in_place_of_a_text_is_refused(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        texts = ["words/a.txt", "words/none.txt", "words/a.txt\n", "../outside.txt"]
        for line, text in zip(lines, texts, strict=False) if split == "train" else ():
            line["text"] = text

    (tmp_path / "data" / "words").mkdir(parents=True)
    for file in ("data/words/a.txt", "outside.txt"):
        (tmp_path / file).write_text("a bell rings")
    with pytest.raises(DataError, match=r"names of files in place of texts: 1\. Put the texts themselves") as caught:
        load(tmp_path, TEXT, IMAGE, change=change)
    assert str(caught.value).splitlines()[2:] == ["  train.jsonl, line 1: 'text' is words/a.txt"]


def test_examples_without_a_required_modality_are_left_out_or_stop(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        del lines[1]["image"]

    required = IMAGE.replace("[modalities.image]", "[modalities.image]\nrequired = true")
    corpus = load(tmp_path, required, TEXT, change=change, training="left_out = 0.3")
    assert [(split.used, split.total) for split in corpus.report.splits.values()] == [(11, 12), (5, 6)]
    kind = "examples without a required modality"
    assert corpus.report.faults.found[kind] == [
        ("train.jsonl, line 2", "no image"), ("val.jsonl, line 2", "no image"),
    ]  # fmt: skip
    with pytest.raises(DataError, match=rf"{kind}: 2. Add it to these lines, or take `required` out of"):
        load(tmp_path, required, TEXT, change=change, training="left_out = 0")


def test_a_file_in_both_splits_is_reported_beside_another_text(tmp_path: Path) -> None:
    change = _set("val", 1, image="image/train-4.png", text="something else")
    found = load(tmp_path, IMAGE, TEXT, change=change).report.faults.found
    # Texts may well be equal in both.
    assert found == {
        "media in both train and val": [
            ("val.jsonl, line 2 (image/train-4.png)", "image as in train.jsonl, line 5 (image/train-4.png)")
        ]
    }


def test_other_captions_of_a_picture_do_not_contradict(tmp_path: Path) -> None:
    change = _set("train", 5, image="image/train-1.png", captions={"en": ["another"], "zh": ["图"]})
    assert load(tmp_path, IMAGE, task="captioning", change=change).report.faults.found == {}


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def forbidden(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.name == "train-1.png":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", forbidden)
    found = load(tmp_path, IMAGE).report.faults.found
    assert found == {"unreadable media": [("train.jsonl, line 2 (image/train-1.png)", "Permission denied")]}


def test_a_file_that_has_gone_since_it_was_listed_is_named(tmp_path: Path) -> None:
    split = load(tmp_path, IMAGE).train.split
    (tmp_path / "data" / "image" / "train-2.png").unlink()
    said = r"train.jsonl, line 3: image/train-2.png could be read before, and now cannot \(No such file .*: put the fil"
    with pytest.raises(DataError, match=said):
        split.sources(split.examples[2], {"image": ["image"]})


def test_files_are_hashed_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(tmp_path, IMAGE).train.split.examples[0].digests
    monkeypatch.setattr(examples, "_BLOCK", 7)
    monkeypatch.setattr(Path, "read_bytes", None)
    data = tmp_path / "data"
    read = examples.read_split(data, "train", {"image": 1}, frozenset(), lambda fields: None, Faults())
    assert read.examples[0].digests == whole


def test_the_most_frequent_size_of_vectors_is_read(tmp_path: Path) -> None:
    (tmp_path / "data" / "vectors").mkdir(parents=True)
    np.save(tmp_path / "data" / "vectors" / "wide.npy", np.zeros((2, 8), np.float32))
    corpus = load(tmp_path, VECTORS, change=_set("train", 0, video="vectors/wide.npy"))
    assert corpus.vectors == {"video": 4}
    ((where, what),) = corpus.report.faults.found["vectors of another size"]
    assert where == "train.jsonl, line 1 (vectors/wide.npy)"
    assert "have the shape 2 x 8" in what


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
        ("regression", _set("train", 1, value="1.5"), "not the text '1.5': write numbers without quotes"),
        ("regression", _set("train", 1, value=[10**400]), "up to 1e+30 on either side of 0"),
        (
            "regression",
            lambda split, lines: [line.update(value=7) for line in lines],
            "targets that are all equal: 1. There is nothing to learn",
        ),
        (
            "regression",
            lambda split, lines: [lines.pop() for _ in range(5) if split == "val"],
            "one example to measure by: 1. Its figures say hardly anything",
        ),
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


@pytest.mark.parametrize(
    ("captions", "language"),
    [("a dog runs", "en"), (["一只狗在跑", "狗"], "zh"), (["a sign says 北京"], "en"), ("iPad 在桌子上面", "zh")],
)
def test_captions_without_a_language_are_in_that_of_their_letters(captions: str | list[str], language: str) -> None:
    assert TARGETS["captioning"].value({"captions": captions}, "captions", ()).keys() == {language}
    assert TARGETS["captioning"].value({"target_text": captions}, "captions", ()).keys() == {language}


def test_one_class_is_one_class_however_its_accents_are_written(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for number, line in enumerate(lines):
            line["label"] = ("caf\u00e9", "cafe\u0301", "bar")[number % 3]

    corpus = load(tmp_path, TEXT, change=change)
    assert set(corpus.train.targets) == {"caf\u00e9", "bar"}


def test_captions_of_every_language_are_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'zh' in 1 examples"):
        load(tmp_path, IMAGE, task="captioning", change=_set("train", 1, captions={"en": ["a"]}))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 3, is not JSON .*: write one JSON object a line, such as"),
        ("[]", "line 3, is no JSON object: write one"),
    ],
)
def test_a_broken_manifest_is_named_by_line(tmp_path: Path, line: str, said: str) -> None:
    data = make_data(tmp_path / "data", train=2, val=2)
    with (data / "train.jsonl").open("a") as file:
        file.write(line + "\n")
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", "classification", IMAGE))
    with pytest.raises(DataError, match=said):
        corpus_of(experiment, TARGETS["classification"](experiment), data, tmp_path / "cache")


def _silent(split: str, lines: list[dict[str, Any]]) -> None:
    lines[1]["audio"] = lines[2]["audio"] = "audio/silent.wav"
    del lines[2]["image"]


@pytest.mark.parametrize(
    ("audio", "task", "steps"),
    [
        # Beside a picture silence is left out, and stays where it is all there is.
        (AUDIO, "classification", [True, False, True]),
        (AUDIO + "required = true\n", "classification", [True, True, True]),
        (AUDIO, "embedding", [True, True]),
    ],
)
def test_silence_is_learned_as_it_is_served(tmp_path: Path, audio: str, task: str, steps: list[bool]) -> None:
    data = make_data(tmp_path / "data", train=12, val=6, change=_silent)
    soundfile.write(data / "audio" / "silent.wav", np.zeros(800), 8000)
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", task, IMAGE, audio, training="left_out = 0.3"))
    corpus = corpus_of(experiment, TARGETS[task](experiment), data, tmp_path / "cache")
    rows = torch.arange(len(steps))
    assert (corpus.train.inputs(rows)["audio"].lengths > 0).tolist() == steps
    assert (corpus.train.lengths["audio"][: len(steps)] > 0).tolist() == steps


def test_texts_that_are_written_cannot_start_from_pairs_of_characters(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", train=12, val=6)
    experiment = load_experiment(make_experiment(tmp_path / "my.toml", "generation", TEXT))
    known = TextTokenizer.build([*"小狗", "小狗"])
    with pytest.raises(DataError, match="would write both"):
        corpus_of(experiment, TARGETS["generation"](experiment), data, tmp_path / "cache", known)
