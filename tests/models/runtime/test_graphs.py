"""Graphs of a decoder's step: recorded for some numbers of rows, replayed for any, on devices that have them."""

import gc
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from models.heads import CaptioningHead
from models.network import FusionRNN
from models.runtime import CUDA_ACCELERATORS
from models.runtime.graphs import ROWS, Graphed, Thunk, on_cuda
from tests.support import tiny_config

EXAMPLES = CUDA_ACCELERATORS[CaptioningHead].examples
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def rerun(thunk: Thunk) -> tuple[Callable[[], Any], Sequence[Tensor]]:
    """What a graph does, by running the function again into the same outputs."""
    outputs = thunk()

    def replay() -> None:
        for place, value in zip(outputs, thunk(), strict=True):
            place.copy_(value)

    return replay, outputs


def head() -> CaptioningHead:
    torch.manual_seed(0)
    found = FusionRNN(tiny_config().network).eval().head
    assert isinstance(found, CaptioningHead)
    # One language may not write what the other does, so some scores are infinite.
    found.spoken[0, :5] = 0
    return found


@torch.no_grad()
def graphed(module: CaptioningHead) -> Graphed:
    (one, *_) = EXAMPLES(module, torch.Generator().manual_seed(1))
    return Graphed(module, "write", one, rerun, nullcontext)


@torch.no_grad()
def test_any_number_of_rows_gives_what_the_method_gives() -> None:
    module = head()
    replayed = graphed(module)
    config = module.config
    for rows in (3, 1, ROWS[-1], 7, ROWS[-1] + 5, 2):
        generator = torch.Generator().manual_seed(rows)
        tokens = torch.randint(config.vocabulary, (rows,), generator=generator)
        languages = torch.randint(len(config.languages), (rows,), generator=generator)
        state = [torch.randn(rows, config.hidden, generator=generator) for _ in module.cell.state_names]
        context = torch.randn(rows, module.common.output_size, generator=generator)
        arguments = (tokens, languages, context, *state)
        for one, other in zip(replayed(*arguments), module.write(*arguments), strict=True):
            torch.testing.assert_close(one, other)


@torch.no_grad()
def test_an_answer_outlives_the_next_replay() -> None:
    module = head()
    replayed = graphed(module)
    first, second, _ = EXAMPLES(module, torch.Generator().manual_seed(2))
    scores = replayed(*first)[0]
    kept = scores.clone()
    replayed(*(tensor[:1] for tensor in second))
    assert torch.equal(scores, kept)


def test_it_does_not_hold_the_head() -> None:
    module = head()
    module.write = graphed(module)  # type: ignore[assignment,method-assign]
    gone = weakref.ref(module)
    gc.disable()
    try:
        del module
        assert gone() is None
    finally:
        gc.enable()


@needs_cuda
@torch.no_grad()
def test_a_recorded_graph_gives_what_the_method_gives() -> None:
    module = head().cuda()
    examples = EXAMPLES(module, torch.Generator().manual_seed(3))
    replayed = Graphed(module, "write", examples[0], on_cuda, nullcontext)
    for arguments in examples:
        for one, other in zip(replayed(*arguments), module.write(*arguments), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
