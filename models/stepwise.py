"""A linear layer for loops: the gradient of its weight is one product over all steps, not one product a step.

Back-propagation through time otherwise writes and adds up a gradient of the weight's size at every step, which for the
small batches of a decoder costs more than the recurrence itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tape = list[tuple[int, Tensor, Tensor]]
"""The inputs [R, I] and output gradients [R, O] of each step, in the order in which back-propagation reaches them.

First the number of the run of back-propagation, for one that is asked for other gradients leaves its steps here unread.
"""


class StepLinear(nn.Linear):
    """``nn.Linear``, with the same result; inside ``unrolled`` its weight gradient is gathered over the steps."""

    gathered: tuple[Tensor, Tape] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.gathered is None:
            return super().forward(x)
        output: Tensor = _Use.apply(x, *self.gathered)  # type: ignore[no-untyped-call]
        bias = self._parameters["bias"]
        return output if bias is None else output + bias


@contextmanager
def unrolled(module: nn.Module) -> Iterator[None]:
    """Gather the weight gradients of all ``StepLinear`` layers in ``module`` over the calls made inside."""
    layers = [layer for layer in module.modules() if isinstance(layer, StepLinear) and layer.weight.requires_grad]
    try:
        for layer in layers:
            tape: Tape = []
            layer.gathered = (_Gather.apply(layer.weight, tape), tape)  # type: ignore[no-untyped-call]
        yield
    finally:
        for layer in layers:
            layer.gathered = None


class _Gather(torch.autograd.Function):
    """The weight itself; back-propagation comes here after every use of it has been through."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tape: Tape) -> Tensor:
        ctx.tape, ctx.dtype = tape, weight.dtype
        # The uses put their share on the tape and hand no gradient back: there is none to be made up.
        ctx.set_materialize_grads(False)
        kind = weight.device.type
        return weight.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *handed: Tensor | None) -> tuple[Tensor | None, None]:
        (total,) = handed  # nothing but by the gradient of a gradient: of the product in ``_Use.backward``
        here = _run()
        steps = [(x.flatten(0, -2), gradient.flatten(0, -2)) for run, x, gradient in ctx.tape if run == here]
        ctx.tape.clear()
        if steps:
            inputs, gradients = (torch.cat(parts) for parts in zip(*steps, strict=True))
            gathered = gradients.t() @ inputs
            total = gathered if total is None else total + gathered
        return None if total is None else total.to(ctx.dtype), None


class _Use(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, tape: Tape) -> Tensor:
        cast = x.to(weight.dtype)
        ctx.save_for_backward(cast, weight)
        ctx.tape, ctx.dtype = tape, x.dtype
        return F.linear(cast, weight)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        gradient = outputs[0].to(weight.dtype)
        ctx.tape.append((_run(), x, gradient))
        return (gradient @ weight).to(ctx.dtype), None, None


def _run() -> int:
    """The number of the run of back-propagation under way. It has no public name; torch is pinned exactly."""
    number: int = torch._C._current_graph_task_id()  # noqa: SLF001
    return number
