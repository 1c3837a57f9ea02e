"""The recipe of av-speech-live: what it asks for and when, and what it takes over."""

from pathlib import Path

import pytest
import torch

from models.checkpoint import load_checkpoint, save_checkpoint
from models.heads.transcription import TranscriptionHead
from models.network import FusionRNN
from models.training.recipes.av_speech import live, recipe
from models.training.recipes.av_speech.data import SpeechData
from models.training.recipes.av_speech.stage import SpeechStage, delayed, timely
from models.training.trainer import Schedule


@pytest.fixture(scope="module")
def data(grid: Path, tmp_path_factory: pytest.TempPathFactory) -> SpeechData:
    return SpeechData(grid, tmp_path_factory.mktemp("cache"), mouth=live.MOUTH)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = {"type": "audio-rnn", "channels": (2, 2), "hidden": 8, "bidirectional": True}
    video = {"type": "lips-rnn", "channels": (2, 4), "vector": 8, "hidden": 8}
    monkeypatch.setattr(recipe, "ENCODERS", {"audio": audio, "video": video})


def test_a_word_is_asked_for_after_it_was_said() -> None:
    labels = torch.tensor([0, 7, 7, 0, 0, 3])
    assert delayed(labels, 2).tolist() == [0, 0, 0, 7, 7, 0]
    assert delayed(labels, 0) is labels


def test_words_are_impossible_far_from_where_they_are_asked_for() -> None:
    scores = torch.full((1, 12, 5), -1.0)
    labels = torch.tensor([[0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 2]])
    found = timely(scores, labels, blank=0)
    assert bool((found[..., 0] == -1).all())
    assert (found[0, :, 3] == -1).nonzero().flatten().tolist() == [2, 3, 4, 5, 6, 7]
    assert (found[0, :, 2] == -1).nonzero().flatten().tolist() == [9, 10, 11]
    assert bool((found[..., 4] == -20).all())


def test_the_network_looks_one_way(data: SpeechData, small: None) -> None:
    config = live.describe(data)
    network = config.network.model_dump()
    assert not network["fusion"]["bidirectional"]
    assert all(encoder.causal for encoder in FusionRNN(config.network).encoders.values())
    assert config.defaults["delay"] == pytest.approx(0.2)


def test_it_starts_from_what_the_forward_half_knew(data: SpeechData, small: None) -> None:
    torch.manual_seed(1)
    whole = recipe.build(recipe.describe(data, ("audio", "video")), data)
    network = recipe.build(live.describe(data), data)
    live.take_over(network, whole)
    given, mine = whole.encoders.state_dict(), network.encoders.state_dict()
    assert all(torch.equal(given[name], value) for name, value in mine.items() if "lips." in name)
    layers = [name for name in mine if name.endswith("layers.1.0.weight_ih_l0")]
    assert len(layers) == 0 or all(torch.equal(given[name][:, :8], mine[name]) for name in layers)


def test_the_loss_falls_on_what_is_repeated(data: SpeechData, small: None) -> None:
    torch.manual_seed(0)
    network = recipe.build(live.describe(data), data)
    schedule = Schedule(epochs=1, metric="score")
    stage = SpeechStage("live", network, data, schedule, rate=1e-2, modality_dropout=0, spliced=0, delay=live.DELAY)
    optimizer = torch.optim.Adam(stage.parameter_groups(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss, _ = stage.loss(torch.arange(4))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def test_a_teacher_says_when_it_heard_a_word_and_is_heeded_later(data: SpeechData, small: None) -> None:
    torch.manual_seed(0)
    teacher = recipe.build(recipe.describe(data, ("audio", "video")), data)
    network = recipe.build(live.describe(data), data)
    schedule = Schedule(epochs=1, metric="score")
    stage = SpeechStage("taught", network, data, schedule, rate=1e-2, delay=live.DELAY, teacher=teacher)
    inputs = stage.inputs([stage._sentence(row) for row in range(2)])
    assert isinstance(teacher.head, TranscriptionHead)
    steps = teacher.head.steps(teacher.encode(inputs))
    said, late = teacher.head.score(steps.sequence).exp(), stage._taught(teacher, inputs)
    assert torch.allclose(late[:, live.DELAY :], said[:, : -live.DELAY], atol=1e-5)
    assert bool((late[:, : live.DELAY, teacher.head.config.blank] == 1).all())
    _, figures = stage.loss(torch.arange(2))
    assert figures["taught"] > 0
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_command_starts_from_av_speech(
    data: SpeechData, grid: Path, small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "EPOCHS", 1)
    monkeypatch.setattr(live, "TAUGHT", 1)
    monkeypatch.setattr(live, "draw_curves", lambda log, picture: None)
    whole = recipe.describe(data, ("audio", "video"))
    save_checkpoint(tmp_path / "av-speech", whole, recipe.build(whole, data), data.tokenizer)
    live.train(grid, tmp_path, 0)
    config = load_checkpoint(tmp_path / "checkpoint").config
    assert config.name == "av-speech-live"
    assert config.modalities["video"].features.model_dump()["causal"]
