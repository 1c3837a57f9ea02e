"""MobileNetV2 on oneDNN's convolutions: weights packed once, activations and residuals inside the convolution.

The published weights pad below and to the right at stride 2, which oneDNN's convolutions do not: each would need a
padded copy of its input. Of a mirrored picture that is padding above and to the left, and at stride 2 a padding of 1 on
all sides comes to just that where the side is even, because the last column is never reached; where it is odd, both
pad all sides by 1. So the picture is turned by 180 degrees, all kernels with it, and the maps are turned back.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.encoders.mobilenet import MobileNetV2
from models.runtime.acceleration import Accelerator, Fast
from models.runtime.kernels import onednn

_TURN = (2, 3)
_TOGETHER = 4
"""Pictures that go through together: the largest layer of more is no longer memory that is kept for the next run."""

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


class FusedMobileNet:
    """``MobileNetV2.forward``."""

    def __init__(self, cnn: MobileNetV2, precision: torch.dtype) -> None:
        self._precision = precision
        self.how = f"{str(precision).removeprefix('torch.')}, fused and packed for oneDNN"
        self._stem = _Convolution(cnn.stem, precision, active=True)
        self._head = _Convolution(cnn.head, precision, active=True)
        blocks: list[Any] = list(cnn.blocks)
        self._blocks = [
            (
                None if block.expand is None else _Convolution(block.expand, precision, active=True),
                _Convolution(block.depthwise, precision, active=True),
                _Convolution(block.project, precision, active=False),
                block.residual,
            )
            for block in blocks
        ]

    def __call__(self, x: Tensor) -> Tensor:
        maps = [self._maps(some) for some in torch.split(x, _TOGETHER)]
        return torch.cat(maps) if len(maps) > 1 else maps[0]

    def _maps(self, x: Tensor) -> Tensor:
        x = self._stem(x.flip(_TURN).to(self._precision).contiguous(memory_format=torch.channels_last))
        for expand, depthwise, project, residual in self._blocks:
            hidden = depthwise(x if expand is None else expand(x))
            x = project.onto(hidden, x) if residual else project(hidden)
        return self._head(x).float().flip(_TURN)


def _build(cnn: MobileNetV2, precision: torch.dtype) -> Fast | None:
    return FusedMobileNet(cnn, precision)


def _examples(_: MobileNetV2, generator: torch.Generator) -> list[tuple[Tensor]]:
    # One even side and one odd, at every stride.
    return [(torch.rand(2, 3, 64, 63, generator=generator) * 2 - 1,)]


mobilenet = Accelerator(MobileNetV2, "forward", _build, _examples)
