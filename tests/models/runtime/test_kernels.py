"""Each accelerator gives what the module itself gives, at shapes it was not compared on when it was built."""

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from models.encoders.mobilenet import NETWORKS, MobileNetV2
from models.encoders.spectrogram import SpectrogramRNN, SpectrogramRNNConfig
from models.runtime import accelerate
from models.runtime.mobilenet import FusedSight
from models.stepwise import StepLinear
from tests.models.runtime.closeness import close


def halved(module: nn.Module, seed: int = 0) -> nn.Module:
    """With random weights that are float16 numbers, as those of a checkpoint are."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        size = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter.data = (torch.randn(parameter.shape, generator=generator) * size**-0.5).half().float()
    return module.eval().requires_grad_(False)


def both(module: nn.Module, runtime: Any = "packed") -> tuple[nn.Module, nn.Module]:
    """The module as it was, and accelerated."""
    before = halved(module)
    after = copy.deepcopy(before)
    found = accelerate(after, runtime)
    assert found.parts.keys() == {""}, found.refused
    return before, after


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sides", [(224, 224), (97, 64), (33, 128), (65, 31)])
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_for_photos(name: str, sides: tuple[int, int], rows: int) -> None:
    before, after = both(NETWORKS[name]())
    picture = numbers(rows, 3, *sides).clamp(-1, 1)
    assert close(after(picture), before(picture))


@pytest.mark.parametrize("far", [0.0, float("inf")], ids=["products", "convolutions"])
@pytest.mark.parametrize("frames", [32, 128])
def test_spectrograms(frames: int, far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # The package has an accelerator of the module's name.
    monkeypatch.setattr(sys.modules[FusedSight.__module__], "_FAR", far)
    config = SpectrogramRNNConfig(frames=frames, blocks=7, hidden=8)
    before = halved(SpectrogramRNN(config))
    after = copy.deepcopy(before)
    assert accelerate(after).parts.keys() == {""}
    for pictures in (1, 3, 9):
        lengths = torch.tensor([pictures * frames, 5])
        sounds = numbers(2, pictures * frames, 64)
        assert close(after(sounds, lengths).sequence, before(sounds, lengths).sequence)


@pytest.mark.parametrize("kind", [nn.Linear, StepLinear])
@pytest.mark.parametrize("bias", [True, False])
def test_products(kind: type[nn.Linear], bias: bool) -> None:
    before, after = both(kind(300, 700, bias=bias))
    for shape in ((300,), (1, 300), (7, 300), (2, 3, 5, 300), (200, 300), (0, 300)):
        assert close(after(numbers(*shape)), before(numbers(*shape)))
    columns = numbers(300, 9).t()
    assert close(after(columns), before(columns))


@pytest.mark.parametrize(
    ("kind", "hidden"), [(nn.LSTM, 8), (nn.LSTM, 96), (nn.LSTM, 800), (nn.GRU, 200), (nn.GRU, 800)]
)
def test_recurrences(kind: type[nn.LSTM | nn.GRU], hidden: int) -> None:
    before, after = both(kind(24, hidden, batch_first=True))
    for rows, steps in ((1, 1), (1, 30), (4, 7), (20, 2)):
        x, h, c = numbers(rows, steps, 24), numbers(1, rows, hidden), numbers(1, rows, hidden, seed=2)
        initial = (h, c) if kind is nn.LSTM else h
        assert close(after(x, initial), before(x, initial))
        assert close(after(x), before(x))
        # Of a slice, whose rows do not lie one after another.
        assert close(after(x.flip(1)[:, :1], initial), before(x.flip(1)[:, :1], initial))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_recurrence_takes_whatever_the_module_takes(kind: type[nn.LSTM | nn.GRU]) -> None:
    before, after = both(kind(6, 250, batch_first=True))
    packed = pack_padded_sequence(numbers(3, 5, 6), torch.tensor([2, 5, 1]), batch_first=True, enforce_sorted=False)
    assert close(after(packed)[0].data, before(packed)[0].data)
    assert close(after(packed)[1], before(packed)[1])
    assert close(after(numbers(5, 6)), before(numbers(5, 6)))


@pytest.mark.parametrize(
    "kernel",
    [
        nn.GRU(4, 4, num_layers=2, batch_first=True),
        nn.LSTM(4, 4, bidirectional=True, batch_first=True),
        nn.LSTM(4, 4, batch_first=True, bias=False),
        nn.LSTM(4, 4, batch_first=True, proj_size=2),
        nn.GRU(4, 4),
        nn.GRU(64, 64, batch_first=True),
        nn.Linear(4, 4),
    ],
    ids=str,
)
def test_what_would_gain_nothing_is_left_alone(kernel: nn.Module) -> None:
    runtime = accelerate(halved(kernel))
    assert (runtime.name, runtime.parts, runtime.refused) == ("packed", {}, {})
    assert "forward" not in vars(kernel)


@pytest.mark.parametrize("module", [MobileNetV2(), nn.Linear(512, 512)], ids=lambda module: type(module).__name__)
def test_bfloat16_is_near(module: nn.Module) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")
    before, after = both(module, "bf16")
    x = numbers(2, 3, 64, 64).clamp(-1, 1) if isinstance(module, MobileNetV2) else numbers(5, 512)
    assert close(after(x), before(x), 0.1)
    assert not close(after(x), before(x), 1e-4)
