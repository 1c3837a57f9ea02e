"""CUDA graphs: a decoder's step is dozens of small kernels, and to start them one by one can take longer than they run.

A graph is recorded for some numbers of rows and replayed for any number up to them, as rows do not touch one another.
"""

import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from models.heads.captioning import CaptioningHead
from models.runtime.acceleration import Accelerator, FastMethod

ROWS = (1, 2, 4, 8, 16, 32, 64)
"""For which a graph is recorded: a batch is padded to the next of them, and a larger one runs as it did."""

_WARMING, _TIMED = 3, 20
Thunk: TypeAlias = Callable[[], Sequence[Tensor]]
Recorder: TypeAlias = Callable[[Thunk], tuple[Callable[[], Any], Sequence[Tensor]]]
"""Runs a function and returns what runs it again on the same inputs, and the outputs that this fills."""


class Graphed:
    """Stands in for a method of tensors [R, ...] that returns tensors [R, ...]."""

    how = f"CUDA graphs for up to {ROWS[-1]} rows"

    def __init__(
        self,
        module: nn.Module,
        method: str,
        like: Sequence[Tensor],
        record: Recorder,
        precision: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        """Record ``method`` for arguments of the shapes and types of ``like``, in the context that ``precision`` makes.

        ``module`` is not held: its weights belong to it.
        """
        self._module, self._method = weakref.ref(module), getattr(type(module), method)
        self._precision = precision
        self._graphs = {rows: self._recorded(rows, like, record) for rows in ROWS}

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = len(tensors[0])
        rows = next((rows for rows in ROWS if rows >= count), None)
        if rows is None:
            return self.straight(*tensors)
        inputs, replay, outputs = self._graphs[rows]
        for place, tensor in zip(inputs, tensors, strict=True):
            place[:count].copy_(tensor)
        replay()
        # The next replay overwrites them.
        return tuple(output[:count].clone() for output in outputs)

    def straight(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What a replay stands for."""
        with self._precision():
            return tuple(output.float() for output in self._method(self._module(), *tensors))

    def _recorded(
        self, rows: int, like: Sequence[Tensor], record: Recorder
    ) -> tuple[list[Tensor], Callable[[], Any], Sequence[Tensor]]:
        # Zeros are valid everywhere, as tokens too; later the rows beyond a batch hold what came before.
        inputs = [tensor.new_zeros(rows, *tensor.shape[1:]) for tensor in like]
        return inputs, *record(lambda: self.straight(*inputs))


def on_cuda(thunk: Thunk) -> tuple[Callable[[], Any], Sequence[Tensor]]:
    """Record a CUDA graph, after some runs beside the current stream that let libraries set themselves up."""
    here, beside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(here)
    with torch.cuda.stream(beside):
        for _ in range(_WARMING):
            thunk()
    here.wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may be serving other checkpoints meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = thunk()
    return graph.replay, outputs


def _build(head: CaptioningHead, precision: torch.dtype) -> FastMethod | None:
    """Graphs of the decoder's step; None where they are not faster on this device."""
    rounded = precision == torch.bfloat16

    def autocast() -> AbstractContextManager[Any]:
        # Without its cache: what a graph reads must be there at every replay.
        return torch.autocast("cuda", torch.bfloat16, enabled=rounded, cache_enabled=False)

    generator = torch.Generator().manual_seed(0)
    one, several, *_ = _examples(head, generator)
    graphed = Graphed(head, "write", one, on_cuda, autocast)
    return (
        graphed if all(_seconds(graphed, each) < _seconds(graphed.straight, each) for each in (one, several)) else None
    )


def _seconds(call: Callable[..., Any], arguments: Sequence[Tensor]) -> float:
    call(*arguments)
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(_TIMED):
        call(*arguments)
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _examples(head: CaptioningHead, generator: torch.Generator) -> list[tuple[Tensor, ...]]:
    """Arguments of ``write``: one row, some, and more than the largest graph has."""
    config, device = head.config, head.bias.device
    examples = []
    for rows in (1, 5, ROWS[-1] + 1):
        tokens = torch.randint(config.vocabulary, (rows,), generator=generator)
        languages = torch.randint(len(config.languages), (rows,), generator=generator)
        context = torch.randn(rows, head.common.output_size, generator=generator)
        state = [torch.randn(rows, config.hidden, generator=generator).tanh() for _ in head.cell.state_names]
        examples.append(tuple(tensor.to(device) for tensor in (tokens, languages, context, *state)))
    return examples


written = Accelerator(CaptioningHead, "write", _build, _examples)
