"""Matrix products with weights packed in 16 bits, for layers that are bound by reading their weights."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.runtime.acceleration import Accelerator, FastMethod
from models.runtime.kernels import onednn
from models.stepwise import StepLinear

WORTH_BYTES = 2**19
"""Of weights in float32. Smaller ones stay in the cache, and packed kernels take longer to call."""

_MANY_ROWS = 128


class HalfLinear:
    """y = W x + b in float32, W packed in float16 and widened in registers (FBGEMM): half the memory to be read.

    Checkpoints are stored in float16, so nothing is lost.
    """

    how = "float32, weights packed in float16"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Pack ``weight`` [O, I].

        Raises:
            ValueError: a weight is no float16 number.
        """
        self._weight, self._bias = weight, bias
        self._packed = pack_half(weight, bias)
        self._product = torch.ops.quantized.linear_dynamic_fp16.default

    def __call__(self, x: Tensor) -> Tensor:
        # Reading the weights is a small share of many rows' products; and the kernel takes no single vector.
        if x.ndim == 1 or x.numel() > _MANY_ROWS * x.shape[-1]:
            return F.linear(x, self._weight, self._bias)
        product: Tensor = self._product(x, self._packed)
        return product


class BFloatLinear:
    """y = W x + b with factors rounded to bfloat16 and sums in float32; the result is rounded, too (oneDNN)."""

    how = "bfloat16"

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._packed = onednn("reorder_linear_weight")(weight.bfloat16())
        self._bias = None if bias is None else bias.bfloat16()
        self._product = onednn("linear_pointwise")

    def __call__(self, x: Tensor) -> Tensor:
        product: Tensor = self._product(x.bfloat16(), self._packed, self._bias, "none", [], "")
        return product.float()


def pack_half(weight: Tensor, bias: Tensor | None) -> Any:
    """FBGEMM's packed form of float16 weights.

    Raises:
        ValueError: a weight is no float16 number.
    """
    if not torch.equal(weight.half().float(), weight):
        raise ValueError("some weights are no float16 numbers, and would be rounded")
    return torch.ops.quantized.linear_prepack_fp16(weight, bias)


def product(weight: Tensor, bias: Tensor | None, precision: torch.dtype) -> FastMethod | None:
    """The product with ``weight`` [O, I] at a precision; None where it is small enough to leave alone."""
    if weight.numel() * 4 < WORTH_BYTES:
        return None
    return (BFloatLinear if precision == torch.bfloat16 else HalfLinear)(weight, bias)


def _build(layer: nn.Linear, precision: torch.dtype) -> FastMethod | None:
    return product(layer.weight, layer.bias, precision)


def rows(size: int, generator: torch.Generator) -> list[tuple[Tensor]]:
    """Vectors of ``size`` numbers to compare by: some of one axis more than others."""
    return [(torch.randn(3, size, generator=generator),), (torch.randn(2, 5, size, generator=generator),)]


linear = Accelerator(nn.Linear, "forward", _build, lambda layer, generator: rows(layer.in_features, generator))
step_linear = Accelerator(StepLinear, "forward", _build, linear.examples)
