"""Ancestral sampling with a temperature; differentiable, so that self-critical training samples with the same code."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoding.decoder import Decoder, Memory_contra, drain
from models.state import State


@dataclass(frozen=True, slots=True)
class Samples:
    """K sequences over each of B memories: ``tokens`` [B, K, T], ``end`` from a sequence's end on.

    ``log_probabilities`` [B, K, T] are those of the untempered model, 0 after the end; ``attention`` is [B, K, T, N].
    """

    tokens: Tensor
    log_probabilities: Tensor
    attention: Tensor


def sample(
    decoder: Decoder[Memory_contra],
    memory: Memory_contra,
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
    return drain(
        sample_steps(
            decoder, memory, state, starts,
            end=end, max_length=max_length, temperature=temperature, top_k=top_k, generator=generator,
        )
    )  # fmt: skip


def sample_steps(
    decoder: Decoder[Memory_contra],
    memory: Memory_contra,
    state: State,
    starts: Tensor,
    *,
    end: int,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Generator[Tensor, None, Samples]:
    """Draw step by step, yielding each step's tokens [B, K]; returns one sequence a row of the state.

    Tokens come from softmax(log p / temperature) over the ``top_k`` most probable ones (Fan et al. 2018), or over all;
    a temperature of 0 takes the most probable one.
    """
    count = next(iter(state.values())).shape[1]
    tokens = starts.unsqueeze(1).expand(-1, count)
    over = torch.zeros_like(tokens, dtype=torch.bool)
    written, scores, attended = [], [], []
    for _ in range(max_length):
        log_probabilities, state, weights = decoder.step(tokens, state, memory)
        drawn = _choose(log_probabilities.detach(), temperature, top_k, generator)
        tokens = drawn.masked_fill(over, end)
        written.append(tokens)
        scores.append(log_probabilities.gather(2, tokens.unsqueeze(2)).squeeze(2).masked_fill(over, 0.0))
        attended.append(weights)
        over = over | (tokens == end)
        yield tokens
        if bool(over.all()):
            break
    return Samples(torch.stack(written, 2), torch.stack(scores, 2), torch.stack(attended, 2))


def _choose(
    log_probabilities: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    if temperature == 0:
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
