"""The recipe of av-speech, on drawn faces that move their lips to tones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.checkpoint import save_checkpoint
from models.media import MediaLimits
from models.pipeline import Pipeline
from models.training.manifest import DataError
from models.training.recipes.av_speech import flat, recipe, study
from models.training.recipes.av_speech.augmentation import (
    babble,
    blur,
    cover,
    dropped,
    hasten,
    hear,
    look,
    mix,
    splice,
    turn,
    windows,
)
from models.training.recipes.av_speech.data import GRAMMAR, SAMPLES, SpeechData
from models.training.recipes.av_speech.noise import noisy
from models.training.recipes.av_speech.stage import SpeechStage
from models.training.trainer import Schedule
from tests.models.training.recipes.sentences import FRAMES, spoken


@pytest.fixture(scope="module")
def data(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechData:
    return SpeechData(grid, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = {"type": "audio-rnn", "channels": (2, 2), "hidden": 8, "bidirectional": True}
    video = {"type": "lips-rnn", "channels": (2, 4), "vector": 8, "hidden": 8}
    monkeypatch.setattr(recipe, "ENCODERS", {"audio": audio, "video": video})
    monkeypatch.setattr(recipe, "EPOCHS", {"sound": (1, 1), "lips": (1, 1), "fused": (1, 1)})
    monkeypatch.setattr(recipe, "draw_curves", lambda log, picture: None)


def test_a_sentence_has_lips_sound_and_labels_of_one_length(data: SpeechData) -> None:
    sentence = data.sentence("train", 1)
    assert sentence.lips.shape == (FRAMES, 48, 64)
    assert sentence.sound.shape == (FRAMES * SAMPLES,)
    assert data.tokenizer.words(sentence.tokens) == ["lay", "green", "by", "b", "one", "now"]
    assert sentence.borders == (4, 7, 10, 13, 16, 19)
    assert sentence.labels.tolist() == [0] * 4 + [token for token in sentence.tokens for _ in range(3)] + [0] * 2


def test_without_lips_the_rest_stays_the_same(data: SpeechData, grid: Path, tmp_path: Path) -> None:
    heard = SpeechData(grid, tmp_path, ("audio",)).sentence("val", 0)
    seen = data.sentence("val", 0)
    assert torch.equal(heard.sound, seen.sound)
    assert torch.equal(heard.labels, seen.labels)
    assert len(heard.lips) == len(seen.lips)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([["bin", 0, 1]], "'bin' is not a sentence of the GRID grammar"),
        (spoken(["bin", "blue", "at", "w", "one", "now"]), "'bin blue at w one now' is not a sentence"),
        ("bin blue at a one now", "`words` must be a list"),
        (None, "`words` must be a list"),
    ],
)
def test_sentences_that_are_not_grids_are_named(grid: Path, tmp_path: Path, words: object, said: str) -> None:
    lines = (grid / "train.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | {"words": words})
    for name in ("train.jsonl", "val.jsonl"):
        (tmp_path / name).write_text("\n".join(lines))
    for video in grid.glob("*.mp4"):
        (tmp_path / video.name).symlink_to(video)
    with pytest.raises(DataError, match=rf"train\.jsonl, line 2: {said}"):
        SpeechData(tmp_path, tmp_path / "cache", ("audio",))


def test_spliced_sentences_are_said_by_the_grammar_and_stay_aligned(data: SpeechData) -> None:
    first, second = data.sentence("train", 0), data.sentence("train", 1)
    torch.manual_seed(0)
    cuts = set()
    for _ in range(20):
        joined = splice(first, replace(second, borders=tuple(border + 1 for border in second.borders)))
        assert len(joined.lips) == len(joined.labels) == len(joined.sound) / SAMPLES
        assert all(token in (a, b) for token, a, b in zip(joined.tokens, first.tokens, second.tokens, strict=True))
        cuts.add(joined.tokens)
        for token, border in zip(joined.tokens[1:], joined.borders[1:], strict=True):
            assert token in joined.labels[border - 1 : border + 1]
    assert len(cuts) == 5


def test_windows_are_of_one_length_and_hold_every_word(data: SpeechData) -> None:
    sentences = [data.sentence("train", row) for row in range(4)]
    torch.manual_seed(0)
    for spare in (0, 2, 75):
        cut = windows(sentences, spare)
        assert {len(one.lips) for one in cut} == {min(18 + spare, FRAMES)}
        for one, whole in zip(cut, sentences, strict=True):
            assert one.labels[one.labels > 0].tolist() == whole.labels[whole.labels > 0].tolist()
            assert len(one.sound) == len(one.lips) * SAMPLES
            assert [int(one.labels[border]) for border in one.borders] == list(one.tokens)


def test_a_hastened_sentence_stays_aligned(data: SpeechData) -> None:
    sentence = data.sentence("train", 0)
    torch.manual_seed(0)
    sizes = set()
    for _ in range(30):
        other = hasten(sentence)
        size = len(other.labels)
        sizes.add(size)
        assert size == len(other.lips) == len(other.sound) / SAMPLES
        assert round(FRAMES / 1.15) <= size <= round(FRAMES * 1.15)
        assert [int(label) for label in other.labels[other.labels > 0].unique_consecutive()] == list(other.tokens)  # type: ignore[no-untyped-call]
        assert [int(other.labels[border]) for border in other.borders] == list(other.tokens)
    assert len(sizes) > 4
    assert hasten(sentence, most=10.0).tokens == sentence.tokens


def test_words_that_would_get_lost_are_not_hastened(data: SpeechData) -> None:
    sentence = data.sentence("train", 0)
    short = replace(sentence, labels=torch.tensor([0, *sentence.tokens, 0]))
    torch.manual_seed(0)
    assert all(set(short.tokens) <= set(hasten(short, most=3.0).labels.tolist()) for _ in range(20))


def test_lips_are_turned_about_their_middle() -> None:
    lips = torch.zeros(2, 48, 64, dtype=torch.uint8)
    lips[:, 24:, :32] = 200
    assert torch.equal(turn(lips, degrees=0, size=1, aspect=1), lips)
    torch.manual_seed(0)
    # A quarter of the picture stays about a quarter, whichever way and however far it is turned.
    for _ in range(10):
        turned = turn(lips, degrees=20, size=1, aspect=1).float() / 200
        assert float(turned.mean()) == pytest.approx(0.25, abs=0.06)
        assert float(turned[:, 40, 8].min()) == 1
        assert float(turned[:, 8, 56].max()) == 0
    # Larger lips: what was a middle square of ten pixels covers more.
    square = torch.zeros(1, 48, 64, dtype=torch.uint8)
    square[:, 19:29, 27:37] = 255
    covered = [float(turn(square, degrees=0, size=1.5, aspect=1).float().mean()) for _ in range(20)]
    plain = float(square.float().mean())
    assert min(covered) < 0.8 * plain < 1.25 * plain < max(covered)


def test_a_turned_square_stays_square() -> None:
    square = torch.zeros(1, 48, 64, dtype=torch.uint8)
    square[:, 14:34, 22:42] = 255
    torch.manual_seed(3)
    turned = turn(square, degrees=12, size=1, aspect=1)[0] > 127
    rows, columns = (turned.any(axis).sum() for axis in (1, 0))
    assert abs(int(rows) - int(columns)) <= 1


def test_lips_out_of_focus_and_covered() -> None:
    torch.manual_seed(0)
    lips = torch.randint(256, (3, 48, 64), dtype=torch.uint8)
    soft = blur(lips)
    assert soft.shape == lips.shape
    assert float(soft.float().std()) < 0.6 * float(lips.float().std())
    assert torch.equal(blur(torch.full_like(lips, 77)), torch.full_like(lips, 77))
    for _ in range(10):
        hidden = (cover(torch.full_like(lips, 77)) != 77).float()
        share = float(hidden.mean())
        assert share == 0 or 0.1**2 < share < 0.5**2
        assert torch.equal(hidden[0], hidden[2])


def test_noise_has_the_ratio_that_was_asked_for() -> None:
    torch.manual_seed(0)
    sound, noise = 0.1 * torch.randn(16_000), torch.rand(16_000) - 0.5
    for decibels in (-5.0, 0.0, 10.0):
        mixed = mix(sound, noise, decibels)
        rest = (mixed - sound).square().mean()
        assert 10 * torch.log10(sound.square().mean() / rest) == pytest.approx(decibels, abs=0.1)
    assert mix(sound * 9, noise, -5).abs().max() <= 1
    assert mix(torch.zeros(9), torch.zeros(9), 0).isfinite().all()


def test_babble_is_all_voices_alike() -> None:
    quiet, loud = 0.01 * torch.sin(torch.arange(500.0)), torch.cos(0.1 * torch.arange(700.0))
    together = babble([quiet, loud], 2000, torch.Generator().manual_seed(0))
    assert together.shape == (2000,)
    spectrum = torch.fft.rfft(together).abs()
    low, high = spectrum[: 2000 // 20].max(), spectrum[2000 // 20 :].max()
    assert 0.4 < low / high < 2.5


def test_sounds_and_lips_are_changed_within_their_range(data: SpeechData) -> None:
    sentence = data.sentence("train", 0)
    torch.manual_seed(0)
    for _ in range(10):
        lips, sound = look(sentence.lips), hear(sentence.sound, lambda: sentence.sound)
        assert lips.shape == sentence.lips.shape
        assert lips.dtype == torch.uint8
        assert sound.shape == sentence.sound.shape
        assert sound.abs().max() <= 1
    assert not torch.equal(lips, sentence.lips)
    assert torch.equal(sentence.lips, data.sentence("train", 0).lips)


def test_no_row_loses_both_modalities() -> None:
    torch.manual_seed(0)
    present = dropped(torch.ones(2000, 2, dtype=torch.bool), 0.5)
    assert present.any(1).all()
    assert present.float().mean(0).tolist() == pytest.approx([0.75, 0.75], abs=0.05)
    assert dropped(torch.ones(9, 2, dtype=torch.bool), 0.0).all()


def test_what_is_measured_in_noise_is_the_same_each_time(data: SpeechData) -> None:
    sentence = data.sentence("val", 0)
    assert noisy(sentence, data, 0, None) is sentence
    some, again, other = (noisy(sentence, data, row, 0.0).sound for row in (0, 0, 1))
    assert torch.equal(some, again)
    assert not torch.equal(some, other)


def test_the_loss_falls_on_what_is_repeated(data: SpeechData, small: None) -> None:
    torch.manual_seed(0)
    network = recipe.build(recipe.describe(data, ("audio", "video")), data)
    stage = SpeechStage("fused", network, data, Schedule(1, "score"), rate=1e-2)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        loss, figures = stage.loss(torch.arange(4))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(figures["framewise"])
    # Each step hears other noise over the same four clips, so single losses go up and down.
    assert sum(losses[-10:]) / 10 < sum(losses[:3]) / 3 - 0.3, losses


def test_the_command_leaves_a_checkpoint_that_answers_to_either_or_both(
    grid: Path, tmp_path: Path, small: None
) -> None:
    recipe.train(grid, tmp_path, 0)
    pipeline = Pipeline.load(tmp_path / "checkpoint")
    pipeline.warm_up()
    film = (grid / "val-0.mp4").read_bytes()
    for bundle, modalities in (({"video": [film]}, {"audio", "video"}), ({"audio": [film]}, {"audio"})):
        decoded = pipeline.decode(bundle, MediaLimits())  # type: ignore[arg-type]
        result: Any = pipeline.predict(pipeline.features(decoded), pipeline.options())
        assert set(result.modalities) == modalities
        assert [word.word in place for word, place in zip(result.words, GRAMMAR, strict=True)] == [True] * 6
        assert result.words[-1].end <= FRAMES / 25
    lips, sound = (Pipeline.load(tmp_path / name / "checkpoint").network for name in ("lips", "sound"))
    assert set(lips.encoders) == {"video"}
    assert set(sound.encoders) == {"audio"}


def test_the_study_prints_every_level_and_is_written_into_the_metrics(
    grid: Path, data: SpeechData, tmp_path: Path, small: None
) -> None:
    config = recipe.describe(data, ("audio", "video"))
    save_checkpoint(tmp_path / "checkpoint", config, recipe.build(config, data), data.tokenizer)
    study.study(tmp_path / "checkpoint", grid, tmp_path, tmp_path / "cache")
    page = (tmp_path / "av-speech.md").read_text()
    for level in ("clean", "20 dB", "0 dB", "-5 dB"):
        assert f"\n| {level} |" in page
    assert (tmp_path / "pictures" / "av-speech-wer.png").stat().st_size > 5000
    metrics = json.loads((tmp_path / "checkpoint" / "metrics.json").read_text())
    assert len(metrics["baselines"]["both, 0 dB"]["wer"]) == 3


def test_a_network_without_recurrence_is_measured_beside_it(
    grid: Path, data: SpeechData, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe.describe(data, ("audio", "video"))
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, config, recipe.build(config, data), data.tokenizer)
    monkeypatch.setattr(flat, "FLAT_EPOCHS", (1, 1))
    before = (folder / "model.safetensors").read_bytes()
    flat.train(folder, grid, tmp_path / "run", 0)
    assert (folder / "model.safetensors").read_bytes() == before
    weights = torch.load(tmp_path / "run" / "flat-2.pt", weights_only=True)
    assert not [name for name in weights if "cell" in name or ("layers.0.0" in name and "rnn" in name)]
    assert "encoders.video.rnn.linear.weight" in weights
    study.study(folder, grid, tmp_path, tmp_path / "run" / "cache")
    _, table = (tmp_path / "av-speech.md").read_text().split("Without recurrence, each")
    rows = [line.split("|") for line in table.split("Without the grammar")[0].splitlines() if " dB" in line]
    assert len(rows) == 6
    baselines = json.loads((folder / "metrics.json").read_text())["baselines"]
    value, low, high = baselines["no recurrence, lips, clean"]["wer"]
    assert all(row[3].strip() == f"{value:.1f} ({low:.1f} to {high:.1f})" for row in rows)
    assert "both, 0 dB" in baselines


def test_both_are_compared_with_the_better_one_sentence_by_sentence() -> None:
    said = [["a", "b"]] * 4
    right, wrong = ["a", "b"], ["a", "c"]
    written: dict[str, dict[float | None, study.Written]] = {
        "sound": {None: [wrong, wrong, right, right]},
        "lips": {None: [wrong, wrong, wrong, right]},
        "both": {None: [right, right, right, right]},
    }
    found = study.Found(said, written, {}, {})
    assert study.against_better(found, None)[0] == pytest.approx(-25)
    assert study.errors_by_place(found, None)["sound"] == [0, 50]
    assert np.isclose(study.figures(found)["lips"]["clean"][0], 37.5)
