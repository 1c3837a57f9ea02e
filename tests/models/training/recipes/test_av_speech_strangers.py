"""Other voices than GRID's speaker: how they are made, read, taught and measured."""

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from models.checkpoint import save_checkpoint
from models.encoded import Encoded
from models.pipeline import Pipeline
from models.sequence import Padded
from models.tasks.transcription import TranscriptionResult
from models.training.manifest import DataError
from models.training.recipes.av_speech import recipe, study, voices
from models.training.recipes.av_speech.augmentation import estrange
from models.training.recipes.av_speech.data import GRAMMAR, RATE, SpeechData
from models.training.recipes.av_speech.others import other_speakers, section
from models.training.recipes.av_speech.stage import SpeechStage
from models.training.recipes.av_speech.strangers import VOICES, Strangers
from models.training.trainer import Schedule
from tests.models.media.make import recorded, tone


@pytest.fixture(scope="module")
def data(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechData:
    return SpeechData(grid, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def strangers(grid: Path, data: SpeechData, tmp_path: Path) -> Strangers:
    return Strangers(grid.parent / VOICES, "train", data.tokenizer, tmp_path)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = {"type": "audio-rnn", "channels": (2, 2), "hidden": 8, "bidirectional": True}
    video = {"type": "lips-rnn", "channels": (2, 4), "vector": 8, "hidden": 8}
    monkeypatch.setattr(recipe, "ENCODERS", {"audio": audio, "video": video})


def write_manifest(folder: Path, split: str, lines: Sequence[dict[str, str]], pause: int = 0) -> None:
    quiet = torch.zeros(pause, 1).numpy()
    sound = torch.cat([torch.from_numpy(quiet), torch.from_numpy(tone(500, 0.5, RATE) * 0.1)]).numpy()
    for line in lines:
        (folder / line["audio"]).write_bytes(recorded(sound, RATE))
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_stranger_is_heard_from_the_first_sound_on_and_as_loud_as_any(data: SpeechData, tmp_path: Path) -> None:
    write_manifest(tmp_path, "train", [{"audio": "a.wav", "text": "bin blue at f two now"}], pause=4000)
    sound, tokens = Strangers(tmp_path, "train", data.tokenizer, tmp_path / "cache")[0]
    assert data.tokenizer.words(tokens.tolist()) == ["bin", "blue", "at", "f", "two", "now"]
    assert abs(len(sound) - RATE // 2) < 0.002 * RATE
    assert float(sound.abs().max()) == pytest.approx(0.5)


@pytest.mark.parametrize("line", [{"text": "bin blue at w two now"}, {"text": ""}, {}])
def test_what_is_not_of_the_grammar_is_named(data: SpeechData, tmp_path: Path, line: dict[str, str]) -> None:
    write_manifest(tmp_path, "train", [{"audio": "a.wav", "text": "bin"}, {"audio": "b.wav"} | line])
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: `text` must be words of the GRID grammar"):
        Strangers(tmp_path, "train", data.tokenizer, tmp_path / "cache")


def test_a_stranger_is_changed_within_bounds(strangers: Strangers) -> None:
    torch.manual_seed(0)
    sound, _ = strangers[0]
    lengths = set()
    for _ in range(20):
        changed = estrange(sound, lambda: sound, least=0.0)
        assert bool(changed.isfinite().all())
        assert float(changed.abs().max()) <= 1
        lengths.add(len(changed))
        # At least as long as when it is fastest, at most as when slowest, with pauses and a room's echo.
        assert len(sound) / 2**0.4 <= len(changed) <= len(sound) * 2**0.4 + 2 * RATE
    assert len(lengths) > 15


@pytest.mark.parametrize("lips", [False, True])
def test_strangers_are_learned_beside_the_speaker_with_and_without_lips(
    data: SpeechData, strangers: Strangers, small: None, monkeypatch: pytest.MonkeyPatch, lips: bool
) -> None:
    monkeypatch.setattr("models.training.recipes.av_speech.stage._DUBBED", float(lips))
    torch.manual_seed(0)
    network = recipe.build(recipe.describe(data, ("audio", "video")), data)
    read: list[set[str]] = []
    encode = network.encode

    def watched(inputs: Mapping[str, Padded]) -> Encoded:
        read.append(set(inputs))
        return encode(inputs)

    monkeypatch.setattr(network, "encode", watched)
    stage = SpeechStage("s", network, data, Schedule(1, "score"), rate=1e-2, strangers=strangers)
    alone = SpeechStage("s", network, data, Schedule(1, "score"), rate=1e-2)
    torch.manual_seed(1)
    loss, figures = stage.loss(torch.arange(2))
    torch.manual_seed(1)
    without, _ = alone.loss(torch.arange(2))
    assert float(loss.detach()) == pytest.approx(float(without.detach()) + figures["strangers"], rel=1e-5)
    assert read[1] == ({"audio", "video"} if lips else {"audio"})


def test_a_teacher_says_what_strangers_say_and_when(data: SpeechData, strangers: Strangers, small: None) -> None:
    torch.manual_seed(0)
    network = recipe.build(recipe.describe(data, ("audio", "video")), data)
    stage = SpeechStage(
        "s", network, data, Schedule(1, "score"), rate=1e-2, delay=2, teacher=network, strangers=strangers
    )
    loss, figures = stage.loss(torch.arange(2))
    assert bool(loss.isfinite())
    # Of 52 words at each step, by a network that knows none yet, and not of six of them at once, as CTC.
    assert figures["strangers"] < 6


def test_the_recipe_says_at_once_that_they_are_missing(
    grid: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "EPOCHS", {"sound": (1, 1), "lips": (1, 1), "fused": (1, 1)})
    monkeypatch.setattr(recipe, "draw_curves", lambda log, picture: None)
    (tmp_path / "grid").symlink_to(grid)
    with pytest.raises(DataError, match="grid_voices"):
        recipe.train(tmp_path / "grid", tmp_path / "out", 0)
    assert not (tmp_path / "out" / "sound").exists(), "it is to be said before anything is trained"


def test_other_speakers_are_measured_by_name(grid: Path, data: SpeechData, tmp_path: Path, small: None) -> None:
    config = recipe.describe(data, ("audio", "video"))
    save_checkpoint(tmp_path / "checkpoint", config, recipe.build(config, data), data.tokenizer)
    more = tmp_path / "more"
    more.mkdir()
    said = {"text": "bin blue at f two now", "speaker": "theo"}
    write_manifest(more, "val", [{"audio": f"{n}.wav"} | said for n in range(3)])
    folders = [grid.parent / VOICES, more]
    rates = other_speakers(Pipeline.load(tmp_path / "checkpoint"), folders)
    counts = {key: count for key, (count, _) in rates.items()}
    assert counts == {(VOICES, "voice 0"): 1, (VOICES, "voice 1"): 1, ("more", "theo"): 3}
    assert "| more | theo | 3 |" in "\n".join(section(rates))
    # The same recording three times, so as many words are wrong in each.
    answer = Pipeline.load(tmp_path / "checkpoint").answer({"audio": (more / "0.wav").read_bytes()})
    assert isinstance(answer, TranscriptionResult)
    wrong = sum(a != b for a, b in zip(answer.text.split(), said["text"].split(), strict=True))
    assert rates["more", "theo"][1] == pytest.approx([100 * wrong / 6] * 3)
    study.study(tmp_path / "checkpoint", grid, tmp_path, tmp_path / "cache", folders)
    page = (tmp_path / "av-speech.md").read_text()
    assert re.search(rf"--others \S*{VOICES} \S*more\n", page)
    assert "| more | theo | 3 |" in page


def test_who_speaks_must_be_said(data: SpeechData, tmp_path: Path, small: None) -> None:
    config = recipe.describe(data, ("audio", "video"))
    save_checkpoint(tmp_path / "checkpoint", config, recipe.build(config, data), data.tokenizer)
    write_manifest(tmp_path, "val", [{"audio": "a.wav", "text": "bin blue at f two now"}])
    with pytest.raises(DataError, match=r"val\.jsonl, line 1: it needs `speaker` and `text`"):
        other_speakers(Pipeline.load(tmp_path / "checkpoint"), [tmp_path])


def test_voices_say_sentences_of_the_grammar_the_same_each_time(tmp_path: Path) -> None:
    said: list[tuple[str, ...]] = []

    def speak(words: Sequence[str], chance: random.Random, file: Path) -> None:
        said.append(tuple(words))
        file.write_bytes(recorded(tone(chance.uniform(300, 600), 0.1, RATE), RATE))

    made = {"one": voices.Voice("train", 3, lambda: speak), "two": voices.Voice("val", 2, lambda: speak)}
    assert voices.write_voices(tmp_path / "a", made) == {"train": 3, "val": 2}
    voices.write_voices(tmp_path / "b", made)
    assert said[:5] == said[5:]
    assert all(word in place for words in said for word, place in zip(words, GRAMMAR, strict=True))
    for name in ("train.jsonl", "one/0002.wav", "two/0001.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    line = json.loads((tmp_path / "a" / "val.jsonl").read_text().splitlines()[1])
    assert line == {"audio": "two/0001.wav", "text": " ".join(said[4]), "speaker": "two"}


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name, program in (("slt", "flite"), ("ked", "festival"), ("espeak", "espeak-ng")):
        with pytest.raises(DataError, match=f"there is no {program}: install"):
            voices.write_voices(tmp_path / "out", {name: voices.VOICES[name]})


def test_a_program_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flite = tmp_path / "flite"
    flite.write_text("#!/bin/sh\necho no such voice >&2\nexit 1\n")
    flite.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(DataError, match=r"flite -voice slt .* failed: no such voice"):
        voices.write_voices(tmp_path / "out", {"slt": voices.VOICES["slt"]})
