"""Ancestral sampling with a temperature; differentiable, so that self-critical training samples with the same code."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from models.decoding.decoder import Decoder, Memory, Search, StepCall, run
from models.state import State

COLDEST = 1e-3
"""Temperature below which quotients leave float32, long after all but the most probable token have become hopeless."""


@dataclass(frozen=True, slots=True)
class Samples:
    """K sequences over each of B memories: ``tokens`` [B, K, T], ``end`` from a sequence's end on.

    ``log_probabilities`` [B, K, T] are those of the untempered model, 0 after the end; ``attention`` is [B, K, T, N].
    """

    tokens: Tensor
    log_probabilities: Tensor
    attention: Tensor


def sample(
    decoder: Decoder[Memory],
    memory: Memory,
    state: State,
    starts: Tensor,
    *,
    end: int,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Samples:
    """One sequence a row of ``state``: ``sample_steps`` run to its end."""
    steps = sample_steps(
        memory, state, starts,
        end=end, max_length=max_length, temperature=temperature, top_k=top_k, generator=generator,
    )  # fmt: skip
    return run(decoder, steps)


def sample_steps(
    memory: Memory,
    state: State,
    starts: Tensor,
    *,
    end: int,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Search[Samples]:
    """Draw step by step; returns one sequence a row of the state.

    Tokens come from softmax(log p / temperature) over the ``top_k`` most probable ones (Fan et al. 2018), or over all;
    a temperature of 0, or below ``COLDEST``, takes the most probable one.
    """
    count = next(iter(state.values())).shape[1]
    tokens = starts.unsqueeze(1).expand(-1, count)
    over = torch.zeros_like(tokens, dtype=torch.bool)
    written: list[Tensor] = []
    scores, attended = [], []
    for _ in range(max_length):
        certain = partial(_drawn, written, end)
        log_probabilities, state, weights = yield StepCall(tokens, state, memory, certain)
        drawn = _choose(log_probabilities.detach(), temperature, top_k, generator)
        tokens = drawn.masked_fill(over, end)
        written.append(tokens)
        scores.append(log_probabilities.gather(2, tokens.unsqueeze(2)).squeeze(2).masked_fill(over, 0.0))
        attended.append(weights)
        over = over | (tokens == end)
        if bool(over.all()):
            break
    return Samples(torch.stack(written, 2), torch.stack(scores, 2), torch.stack(attended, 2))


def _drawn(written: list[Tensor], end: int) -> list[int]:
    """The first row's tokens so far: of several samples the best is known only at the end, one alone is certain."""
    if not written or written[0].shape[1] > 1:
        return []
    tokens = [int(step[0, 0]) for step in written]
    return tokens[: tokens.index(end)] if end in tokens else tokens


def _choose(
    log_probabilities: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    if temperature < COLDEST:
        return log_probabilities.argmax(2)
    if top_k is None or top_k >= log_probabilities.shape[2]:
        return draw((log_probabilities / temperature).softmax(2), generator)
    values, indices = log_probabilities.topk(top_k, 2)
    drawn = draw((values / temperature).softmax(2), generator)
    return indices.gather(2, drawn.unsqueeze(2)).squeeze(2)


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One index a row from ``probabilities`` [..., V], by inverting their sums: int64 [...].

    On a CPU this is thirty times as fast as ``torch.multinomial`` for vocabularies of thousands.
    """
    sums = probabilities.cumsum(-1)
    total = sums[..., -1:]
    uniform = torch.rand(total.shape, generator=generator, device=total.device, dtype=total.dtype)
    # Rounding must not reach the total, beyond which there is no index, or one of probability 0.
    below = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, below, right=True).squeeze(-1)
