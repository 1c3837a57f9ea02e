"""The recipe of voice-commands, on made-up sounds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.encoders.audio import AudioRNN
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.training.confusion import draw_confusion
from models.training.evaluation import evaluate
from models.training.manifest import DataError
from models.training.recipes import classifier
from models.training.recipes.voice_commands import recipe as voice_commands
from models.training.recipes.voice_commands import sounds
from models.training.recipes.voice_commands.recipe import describe, false_accepts
from models.training.recipes.voice_commands.sounds import LABELS
from tests.models.training.recipes.sounds import write_sounds


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_sounds(tmp_path / "words", "train", [{"label": label} for label in LABELS])
    write_sounds(tmp_path / "words", "val", [{"label": label} for label in LABELS])
    write_sounds(tmp_path / "esc10", "train", [{"label": "rain", "fold": fold} for fold in (1, 2, 4)])
    write_sounds(tmp_path / "fsdd", "train", [{"label": label} for label in range(4)])
    write_sounds(tmp_path / "fsdd", "val", [{"label": label} for label in range(4)])
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


def test_a_label_that_is_no_command_is_named(data: Path, tmp_path: Path) -> None:
    (data / "val.jsonl").write_text(json.dumps({"audio": "val-0.wav", "label": "sideways"}))
    with pytest.raises(DataError, match=r"val\.jsonl .*sideways"):
        sounds.load(data, tmp_path / "cache")


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
