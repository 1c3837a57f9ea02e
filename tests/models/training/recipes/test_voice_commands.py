"""The recipe of voice-commands, on made-up sounds."""

import json
import math
import struct
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from models.encoders.audio import AudioRNN
from models.features.audio import AudioFeatures
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.training.confusion import draw_confusion
from models.training.evaluation import evaluate
from models.training.manifest import DataError, read_manifest
from models.training.recipes import classifier
from models.training.recipes.classifier import Held
from models.training.recipes.voice_commands import recipe as voice_commands
from models.training.recipes.voice_commands import sounds
from models.training.recipes.voice_commands import talk as talking
from models.training.recipes.voice_commands.recipe import (
    FEATURES,
    TRUST_IN_TALK,
    CommandStage,
    describe,
    false_accepts,
)
from models.training.recipes.voice_commands.sounds import LABELS, RATE
from models.training.trainer import Schedule
from tests.models.training.recipes.sounds import write_sounds


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sounds(tmp_path / "words", "train", [{"label": label} for label in LABELS])
    write_sounds(tmp_path / "words", "val", [{"label": label} for label in LABELS])
    write_sounds(tmp_path / "esc10", "train", [{"label": "rain", "fold": fold} for fold in (1, 2, 4)])
    write_sounds(tmp_path / "fsdd", "train", [{"label": label} for label in range(4)])
    write_sounds(tmp_path / "fsdd", "val", [{"label": label} for label in range(4)])
    write_sounds(tmp_path / "talk", "train", [{"label": "said"}] * 3)
    return tmp_path / "words"


def test_the_command_leaves_a_checkpoint_that_answers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voice_commands, "EPOCHS", 1)
    monkeypatch.setattr(voice_commands, "SEEDS", 2)
    tables: list[NDArray[np.int64]] = []

    def draw(table: NDArray[np.int64], labels: list[str], picture: Path) -> None:
        tables.append(table)
        draw_confusion(table, labels, picture)

    monkeypatch.setattr(classifier, "draw_confusion", draw)
    voice_commands.train(data, tmp_path / "out", 3)
    pipeline = Pipeline.load(tmp_path / "out" / "checkpoint")
    pipeline.warm_up()
    metrics = json.loads((tmp_path / "out" / "checkpoint" / "metrics.json").read_text())
    assert metrics["n"] == 12
    assert metrics["seed"] in metrics["seeds"]["of"] == [3, 4]
    assert len(metrics["seeds"]["accuracy"]) == 3
    assert metrics["baselines"].keys() == {"always 'down'", "no recurrence"}
    assert pipeline.config.defaults["temperature"] == metrics["calibration"]["temperature"]
    assert (tmp_path / "out" / "confusion.png").exists()
    # The picture and the calibration error are of the same answers as the figures: those of what is served.
    figures = evaluate(tmp_path / "out" / "checkpoint", data, "val")["figures"]
    assert metrics["figures"] == figures
    assert np.trace(tables[-1]) / 12 == pytest.approx(figures["accuracy"][0], abs=1e-4)
    assert metrics["calibration"]["error_after"] == figures["expected_calibration_error"]
    again = voice_commands.remeasured(tmp_path / "out" / "checkpoint", data, tmp_path / "again")
    assert again["recordings"] == metrics["recordings"]
    assert again["false_accepts"] == pytest.approx(metrics["false_accepts"], abs=5e-3)


def test_of_several_seeds_the_one_is_shipped_that_hears_most_of_what_is_posted(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def posted(folder: Path, _: sounds.Sounds) -> dict[str, Any]:
        assert Pipeline.load(folder).config.name == "voice-commands"
        return {
            "recordings": {"seed-3": {"WAV": 1.0, "in a hall": 0.5}, "seed-4": {"WAV": 0.9, "in a hall": 0.8}}[
                folder.parent.name
            ]
        }

    monkeypatch.setattr(voice_commands, "_posted", posted)
    network = FusionRNN(describe().network)
    runs = [classifier.Run(seed, network, np.zeros((1, 12)), accuracy) for seed, accuracy in ((3, 0.9), (4, 0.8))]
    assert voice_commands._sturdiest(runs, tmp_path, sounds.load(data, tmp_path / "cache")).seed == 4


def test_a_label_that_is_no_command_is_named(data: Path, tmp_path: Path) -> None:
    (data / "val.jsonl").write_text(json.dumps({"audio": "val-0.wav", "label": "sideways"}))
    with pytest.raises(DataError, match=r"val\.jsonl .*sideways"):
        sounds.load(data, tmp_path / "cache")


def test_talk_is_for_training_alone(data: Path, tmp_path: Path) -> None:
    rmtree(data.parent / "talk")
    sounds.load(data, tmp_path / "cache")
    with pytest.raises(DataError, match=r"talk.train\.jsonl does not exist"):
        voice_commands.train(data, tmp_path / "out", 0)


def test_draws_of_talk_are_marked_as_long_as_the_window_and_unknown(data: Path, tmp_path: Path) -> None:
    held = sounds.load(data, tmp_path / "cache")
    draw = sounds.Draw(held, sounds.load_talk(data, tmp_path / "cache"), AudioFeatures.model_validate(FEATURES))
    torch.manual_seed(0)
    _, goals, talk = draw(torch.arange(len(LABELS)).repeat(20))
    assert 0.05 < talk.float().mean() < 0.3
    assert (goals[talk].argmax(1) == LABELS.index("unknown")).all()
    lines = draw._talk(3 * RATE)
    assert len(lines) == 3 * RATE
    loudest = lines[: 3 * RATE // 10 * 10].view(10, -1).abs().amax(1)
    assert (loudest > 0.5).all(), "lines follow each other without a gap"


def test_talk_that_surely_is_a_command_teaches_little() -> None:
    """The gradient of (1 - p^q) / q is p^q times that of cross-entropy."""
    unknown = LABELS.index("unknown")
    goals = torch.nn.functional.one_hot(torch.tensor([unknown]), len(LABELS)).float()

    def gradient(logit: float, talk: bool) -> float:
        logits = torch.zeros(1, len(LABELS)).index_fill(1, torch.tensor(unknown), logit).requires_grad_()
        network: Any = lambda _: logits  # noqa: E731
        draw: Any = lambda _: ({}, goals, torch.tensor([talk]))  # noqa: E731
        stage = CommandStage(network, draw, 1, Held([]), Schedule(epochs=1, metric="score"))
        loss, _ = stage.loss(torch.tensor([0]))
        return float(torch.autograd.grad(loss, logits)[0][0, unknown])

    for logit in (-6.0, 0.0, 3.0):
        p = math.exp(logit) / (math.exp(logit) + len(LABELS) - 1)
        assert gradient(logit, talk=True) == pytest.approx(p**TRUST_IN_TALK * gradient(logit, talk=False), rel=1e-4)


def _game(lines: dict[str, bytes], compression: int = 1) -> bytes:
    names = list(lines)
    start = 15 + 21 * len(names)
    table, body = b"", b""
    for name in names:
        table += struct.pack(">12sBII", name.encode(), 1, start + len(body), len(lines[name]))
        body += lines[name]
    return b"QTBLCEM10\0" + bytes([0, 0, compression]) + struct.pack(">H", len(names)) + table + body


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    root = tmp_path / "unpacked"
    (root / talking._GAME).parent.mkdir(parents=True)
    lines = {"A.SB": b"a" * 5000, "SHORT.SB": b"b" * 50, "ROOM.PCX": b"c" * 5000, "Z.SB": b"z" * 4000}
    (root / talking._GAME).write_bytes(_game(lines))
    for place, speaker in enumerate(talking._SPLITS):
        for name in ("hello", "digits/1", "dictate/pause"):
            path = root / talking._PROMPTS / speaker / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.full(4000, place / 8), 8000)
        soundfile.write(root / talking._PROMPTS / speaker / "beep.wav", np.zeros(100), 8000)
    return root


def test_talk_is_copied_from_unpacked_packages(packages: Path, tmp_path: Path) -> None:
    out = tmp_path / "talk"
    assert talking.write_talk(packages, out) == {"train": 6, "val": 4}
    train, val = (read_manifest(out, split, media=("audio",)) for split in ("train", "val"))
    names = [each["audio"] for each in train.examples]
    assert names[:2] == ["game/A.mp3", "game/Z.mp3"]
    assert (out / "game/A.mp3").read_bytes() == b"a" * 5000
    assert (out / "game/Z.mp3").read_bytes() == b"z" * 4000
    assert {name.split("/")[0] for name in names[2:]} == {"it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU"}
    assert {each["audio"] for each in val.examples} == {
        f"{speaker}/{name}.wav"
        for speaker in ("en_US_f_Allison", "fr_CA_f_June")
        for name in ("hello", "dictate/pause")
    }


def test_packages_that_lack_speech_are_named(packages: Path, tmp_path: Path) -> None:
    (packages / talking._GAME).write_bytes(_game({"A.SB": b"a" * 5000}, compression=0))
    with pytest.raises(DataError, match=r"queen\.1c is not the archive of the edition with speech"):
        talking.write_talk(packages, tmp_path / "talk")
    rmtree(packages / talking._PROMPTS / "fr_CA_f_June")
    with pytest.raises(DataError, match=r"fr_CA_f_June does not exist: unpack"):
        talking.write_talk(packages, tmp_path / "talk")


def test_the_network_is_small_and_follows_a_stream() -> None:
    network = FusionRNN(describe().network).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 300_000
    encoder = network.encoders["audio"]
    assert isinstance(encoder, AudioRNN)
    frames = torch.randn(1, 50, 40)
    with torch.inference_mode():
        whole = encoder(frames, torch.tensor([50])).sequence
        state, outputs = encoder.initial_state(1), []
        for chunk in torch.split(frames, 7, 1):
            heard, state = encoder.step(chunk, state)
            outputs.append(heard)
    assert torch.allclose(torch.cat(outputs, 1), whole, atol=1e-5)


def test_false_accepts_are_counted_at_the_threshold_that_lets_few_unknown_words_pass() -> None:
    classes = len(LABELS)

    def sure(label: str, probability: float) -> np.ndarray:
        row = np.full(classes, (1 - probability) / (classes - 1))
        row[LABELS.index(label)] = probability
        return row

    unknown, silence, go, no = (LABELS.index(label) for label in ("unknown", "silence", "go", "no"))
    # One of 21 unknown words looks like "no" at 0.6, the others at 0.3 or less.
    words = [sure("no", 0.6), *(sure("no", 0.1 + 0.01 * place) for place in range(20))]
    spoken = [sure("go", 0.9), sure("go", 0.2), sure("no", 0.9), sure("go", 0.8)]
    quiet = [sure("silence", 0.9), sure("up", 0.7)]
    truth = np.array([unknown] * 21 + [go] * 4 + [silence] * 2)
    torn = sure("unknown", 0.5)
    torn[no] = 0.49
    strange = {"environment": np.stack([sure("up", 0.9), sure("unknown", 0.9)]), "digits": torn[None]}
    found = false_accepts(np.stack([*words, *spoken, *quiet]), truth, strange)
    assert 0.29 < found["threshold"] < 0.6
    assert found["unknown_accepted"] == pytest.approx(1 / 21, abs=1e-4)
    assert found["commands_accepted_rightly"] == 0.5
    assert found["silence_accepted"] == 0.5
    assert found["environment_accepted"] == 0.5
    assert found["digits_accepted"] == 0, "what is rather unknown is no command, however probable"
