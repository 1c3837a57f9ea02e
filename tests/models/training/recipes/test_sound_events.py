"""The recipe of sound-events, on made-up sounds."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.encoders.mobilenet import MobileNetV2
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.sequence import Padded
from models.training.manifest import DataError
from models.training.recipes.sound_events import clips as sounds
from models.training.recipes.sound_events import recipe as sound_events
from models.training.recipes.sound_events import strangers
from models.training.recipes.sound_events.clips import FLOOR, Clips, Draw, load
from models.training.recipes.sound_events.recipe import describe, from_pictures
from tests.models.training.recipes.sounds import write_sounds


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(strangers, "COUNT", 6)
    examples = [{"label": label, "fold": fold} for label in ("rain", "rooster") for fold in (1, 2) for _ in range(4)]
    write_sounds(tmp_path / "sounds", "train", examples)
    write_sounds(tmp_path / "speech_commands", "train", [{"label": label} for label in ("up", "silence", "go")])
    torch.manual_seed(0)
    cnn = {name: value.half().contiguous() for name, value in MobileNetV2().state_dict().items()}
    (tmp_path / "mobilenet_v2").mkdir()
    save_file(cnn, tmp_path / "mobilenet_v2" / "imagenet.safetensors")
    return tmp_path / "sounds"


@pytest.fixture
def clips(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clips:
    monkeypatch.setattr(sounds, "VIEWS", 2)
    return load(data, tmp_path / "cache")


def test_the_command_cross_validates_and_ships_a_network_of_all_folds(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound_events, "EPOCHS", 1)
    monkeypatch.setattr(sound_events, "SEEDS", 1)
    monkeypatch.setattr(sounds, "VIEWS", 2)
    monkeypatch.setattr(sounds, "STEPS", 64)
    sound_events.train(data, tmp_path / "out", 0)
    metrics = json.loads((tmp_path / "out" / "checkpoint" / "metrics.json").read_text())
    assert metrics["n"] == 16
    assert metrics["folds"].keys() == {"1", "2"}
    assert sum(metrics["folds"].values()) / 2 == pytest.approx(metrics["figures"]["accuracy"][0])
    assert metrics["baselines"]["always 'rain'"]["accuracy"] == 0.5
    pipeline = Pipeline.load(tmp_path / "out" / "checkpoint")
    pipeline.warm_up()
    assert pipeline.config.labels == ["rain", "rooster"]
    answer = pipeline.answer({"audio": (data / "train-0.wav").read_bytes()})
    novelty = answer.modalities["audio"].novelty
    assert novelty is not None
    assert 0 < novelty < math.inf
    again = sound_events.remeasured(tmp_path / "out" / "checkpoint", data, tmp_path / "again")
    assert again == {"recordings": metrics["recordings"]}


def test_the_convolutions_start_from_pictures(data: Path) -> None:
    weights = data.parent / "mobilenet_v2" / "imagenet.safetensors"
    network = FusionRNN(describe(["rain", "rooster"]).network)
    from_pictures(network, weights)
    stored, mine = load_file(weights), network.encoders["audio"].state_dict()
    assert torch.equal(mine["blocks.12.project.weight"], stored["blocks.12.project.weight"].float())
    assert torch.equal(mine["stem.bias"], stored["stem.bias"].float())


def test_missing_weights_are_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mobilenet_v2" / "imagenet.safetensors").unlink()
    with pytest.raises(DataError, match=r"imagenet\.safetensors"):
        sound_events.train(data, tmp_path / "out", 0)


def test_folds_are_needed(data: Path, tmp_path: Path) -> None:
    (data / "train.jsonl").write_text(json.dumps({"audio": "train-0.wav", "label": "rain"}))
    with pytest.raises(DataError, match="fold"):
        load(data, tmp_path / "cache")


def test_disguises_differ_and_the_first_view_is_the_recording(clips: Clips) -> None:
    first, second = clips.frames[0]
    assert len(first) == 41
    assert len(first) != len(second) or not torch.equal(first, second)


@pytest.fixture
def others(data: Path, tmp_path: Path) -> list[Tensor]:
    return strangers.load(data.parent / "speech_commands", tmp_path / "cache")


def test_strangers_are_heard_and_the_same_again(data: Path, tmp_path: Path, others: list[Tensor]) -> None:
    torch.manual_seed(1)
    again = strangers.load(data.parent / "speech_commands", tmp_path / "cache")
    assert all(torch.equal(one, other) for one, other in zip(others, again, strict=True))
    assert len({one.mean().item() for one in others}) == len(others)
    for one in others:
        assert one.shape == (sounds.STEPS, 64)
        assert float(one.std(0).max()) > 0.1


def test_mixed_clips_are_asked_for_in_the_proportion_of_their_energies(clips: Clips, others: list[Tensor]) -> None:
    torch.manual_seed(0)
    draw = Draw(clips, torch.arange(16), others)
    inputs, goals = draw(torch.arange(16).repeat(2))
    assert inputs["audio"].values.shape == (48, sounds.STEPS, 64)
    assert torch.allclose(goals.sum(1), torch.ones(48))
    assert bool(((goals[:32, :2] > 0.1) & (goals[:32, :2] < 0.9)).any())
    assert goals[:32, 2].max() < 0.05
    assert goals.max() == pytest.approx(0.95 + 0.05 / 3)
    features = draw.features
    assert float(inputs["audio"].values.min()) * features.std + features.mean >= FLOOR - 1e-3


def test_strangers_have_a_class_of_their_own(clips: Clips, others: list[Tensor]) -> None:
    _, goals = Draw(clips, torch.arange(16), others)(torch.arange(16))
    assert bool((goals[16:].argmax(1) == 2).all())


def test_a_stranger_beside_a_clip_is_softer(
    clips: Clips, others: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    def power(share: float) -> float:
        torch.manual_seed(3)
        monkeypatch.setattr(sounds, "BESIDE", share)
        monkeypatch.setattr(sounds, "mask_time", lambda x: x)
        monkeypatch.setattr(sounds, "mask_frequency", lambda x: x)
        frames = Draw(clips, torch.arange(16), others)(torch.arange(2))[0]["audio"].values[:2]
        return float((frames.double() * sounds.FEATURES["std"]).exp().mean())

    assert 1 + 10**-2 <= power(1.0) / power(0.0) <= 1 + 10**-0.5


def test_what_is_forgotten_leaves_the_other_answers_as_they_were() -> None:
    torch.manual_seed(0)
    network = FusionRNN(describe(["rain", "rooster", "none of these"]).network).eval()
    inputs = {"audio": Padded(torch.randn(2, 130, 64), torch.tensor([130, 100]))}
    before = network(inputs)
    strangers.forget(network)
    assert torch.equal(network(inputs), before[:, :2])
    FusionRNN(describe(["rain", "rooster"]).network).load_state_dict(network.state_dict())
