"""Inverted residual blocks on oneDNN's convolutions: weights packed once, activations and residuals inside these.

The published weights pad below and to the right at stride 2, which oneDNN's convolutions do not: each would need a
padded copy of its input. Of a mirrored picture that is padding above and to the left, and at stride 2 a padding of half
the kernel on all sides comes to just that where the side is even, because the last column is never reached; where it is
odd, both pad all sides alike. So the picture is turned by 180 degrees, all kernels with it, and the maps are turned
back.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.mobilenet import EfficientNetLite0, InvertedResiduals, MobileNetV2
from models.encoders.spectrogram import SpectrogramRNN, by_step, planes
from models.runtime.acceleration import Accelerator, FastMethod
from models.runtime.kernels import onednn

_TURN = (2, 3)
_TOGETHER = 4
"""Pictures that go through together: the largest layer of more is no longer memory that is kept for the next run."""

_FAR = 2.0
"""Times as fast that a kernel must be which takes more memory."""

_RUNS = 5
"""Of a kernel that is timed: the first plans it, and the fastest counts."""

_RELU6: tuple[str, list[float], str] = ("hardtanh", [0.0, 6.0], "")
_NO_ACTIVATION: tuple[str, list[float], str] = ("none", [], "")


class _Convolution:
    """A convolution by the turned kernel, with what follows it."""

    def __init__(self, layer: nn.Conv2d, precision: torch.dtype, *, active: bool) -> None:
        geometry = ([size // 2 for size in layer.kernel_size], list(layer.stride), [1, 1], layer.groups)
        weight = layer.weight.flip(_TURN).to(precision)
        assert layer.bias is not None
        packed = onednn("reorder_convolution_weight")(weight, *geometry)
        self._arguments: tuple[Any, ...] = (packed, layer.bias.to(precision), *geometry)
        self._activation = _RELU6 if active else _NO_ACTIVATION
        self._convolve = onednn("convolution_pointwise")
        self._convolve_onto = onednn("convolution_pointwise", "binary")

    def __call__(self, x: Tensor) -> Tensor:
        maps: Tensor = self._convolve(x, *self._arguments, *self._activation)
        return maps

    def onto(self, x: Tensor, residual: Tensor) -> Tensor:
        """The convolution of ``x``, added to ``residual``."""
        maps: Tensor = self._convolve_onto(x, residual, *self._arguments, "add", 1.0, None, [], None)
        return maps


class _Product:
    """A convolution of 1x1, and ReLU6, as the product over all places that it is.

    For some sizes oneDNN takes up to six times as long for it as a convolution, and for none much less. But what it
    plans for a product takes half a megabyte for each number of places, so it is worth that only now and then.
    """

    def __init__(self, layer: nn.Conv2d, precision: torch.dtype) -> None:
        assert layer.bias is not None
        self._weight = onednn("reorder_linear_weight")(layer.weight.flatten(1).to(precision))
        self._bias = layer.bias.to(precision)
        self._multiply = onednn("linear_pointwise")

    def __call__(self, x: Tensor) -> Tensor:
        places = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
        values: Tensor = self._multiply(places, self._weight, self._bias, *_RELU6)
        return values.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class _Block:
    """An inverted residual block."""

    expand: Callable[[Tensor], Tensor] | None
    depthwise: _Convolution
    project: _Convolution
    residual: bool

    def __call__(self, x: Tensor) -> Tensor:
        hidden = self.depthwise(x if self.expand is None else self.expand(x))
        return self.project.onto(hidden, x) if self.residual else self.project(hidden)


class FusedResiduals:
    """``InvertedResiduals.forward``, or its first blocks alone, where it has no ``head``."""

    def __init__(
        self,
        stem: nn.Conv2d,
        blocks: Iterable[Any],
        head: nn.Conv2d | None,
        precision: torch.dtype,
        like: Tensor | None = None,
    ) -> None:
        """``like``: what it will be given, if it is always of one size, for which kernels can then be chosen."""
        self._precision = precision
        self.how = f"{str(precision).removeprefix('torch.')}, fused and packed for oneDNN"
        self._stem = _Convolution(stem, precision, active=True)
        self._head = None if head is None else _Convolution(head, precision, active=True)
        self._blocks: list[_Block] = []
        x = None if like is None else self._stem(self._turned(like))
        for block in blocks:
            expand = None if block.expand is None else _expansion(block.expand, precision, x)
            depthwise = _Convolution(block.depthwise, precision, active=True)
            project = _Convolution(block.project, precision, active=False)
            self._blocks.append(_Block(expand, depthwise, project, block.residual))
            x = None if x is None else self._blocks[-1](x)

    def __call__(self, x: Tensor) -> Tensor:
        maps = [self._maps(some) for some in torch.split(x, _TOGETHER)]
        return torch.cat(maps) if len(maps) > 1 else maps[0]

    def _maps(self, x: Tensor) -> Tensor:
        x = self._stem(self._turned(x))
        for block in self._blocks:
            x = block(x)
        return (x if self._head is None else self._head(x)).float().flip(_TURN)

    def _turned(self, x: Tensor) -> Tensor:
        return x.flip(_TURN).to(self._precision).contiguous(memory_format=torch.channels_last)


def _expansion(layer: nn.Conv2d, precision: torch.dtype, x: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The kernel for it; of two, if it is known what they will be given, the faster by far."""
    convolution = _Convolution(layer, precision, active=True)
    if x is None:
        return convolution
    product = _Product(layer, precision)
    return product if _FAR * _seconds(product, x) < _seconds(convolution, x) else convolution


def _seconds(kernel: Callable[[Tensor], Tensor], x: Tensor) -> float:
    spent = []
    for _ in range(_RUNS):
        started = time.thread_time()
        kernel(x)
        spent.append(time.thread_time() - started)
    return min(spent)


class FusedSight:
    """``SpectrogramRNN.see``."""

    def __init__(self, encoder: SpectrogramRNN, precision: torch.dtype) -> None:
        like = planes(torch.zeros(_TOGETHER, encoder.frames, encoder.bands))
        self._cnn = FusedResiduals(encoder.stem, list(encoder.blocks), None, precision, like)
        self.how = self._cnn.how

    def __call__(self, pictures: Tensor) -> Tensor:
        return by_step(self._cnn(planes(pictures)))


def _build(cnn: InvertedResiduals, precision: torch.dtype) -> FastMethod | None:
    return FusedResiduals(cnn.stem, list(cnn.blocks), cnn.head, precision)


def _examples(_: InvertedResiduals, generator: torch.Generator) -> list[tuple[Tensor]]:
    # One even side and one odd, at every stride.
    return [(torch.rand(2, 3, 64, 63, generator=generator) * 2 - 1,)]


def _pictures(encoder: SpectrogramRNN, generator: torch.Generator) -> list[tuple[Tensor]]:
    return [(torch.rand(2, encoder.frames, encoder.bands, generator=generator) * 2 - 1,)]


mobilenet = Accelerator(MobileNetV2, "forward", _build, _examples)
efficientnet = Accelerator(EfficientNetLite0, "forward", _build, _examples)
spectrogram = Accelerator(SpectrogramRNN, "see", FusedSight, _pictures)
