"""Batched beam search with length normalization (Wu et al. 2016, sec. 7, with the plain |Y|^alpha of Jean et al. 2015).

Knows nothing of captions: it searches whatever network keeps to the ``Decoder`` contract.
"""

from collections.abc import Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from models.decoding.decoder import Decoder, Hypothesis, Memory, Search, StepCall, run
from models.state import State

_Paths: TypeAlias = list[list[tuple[int, ...]]]
"""Of each row, a sequence of numbers for each beam."""

_DEAD = float("-inf")


def beam_search(
    decoder: Decoder[Memory],
    memory: Memory,
    state: State,
    starts: Tensor,
    *,
    end: int,
    beam_size: int,
    max_length: int,
    length_penalty: float,
    no_repeat: int = 0,
) -> list[list[Hypothesis]]:
    """The ``beam_size`` best sequences found of each row, best first: ``beam_steps`` run to its end."""
    steps = beam_steps(
        memory, state, starts,
        end=end, beam_size=beam_size, max_length=max_length, length_penalty=length_penalty, no_repeat=no_repeat,
    )  # fmt: skip
    return run(decoder, steps)


def beam_steps(
    memory: Memory,
    state: State,
    starts: Tensor,
    *,
    end: int,
    beam_size: int,
    max_length: int,
    length_penalty: float,
    no_repeat: int = 0,
) -> Search[list[list[Hypothesis]]]:
    """Search step by step; returns the ``beam_size`` best sequences found of each row, best first.

    A row is done once ``beam_size`` of its sequences have ended, though one that goes on might still score higher.

    Args:
        state: tensors [B, beam_size, ...], all beams alike.
        starts: first token of each row, int64 [B].
        end: the token that finishes a sequence; one that reaches ``max_length`` tokens is finished as it is.
        length_penalty: alpha in score = log p / length ** alpha; 0 prefers short sequences, 1 long ones.
        no_repeat: no sequence may hold the same n-gram of this order twice (Paulus et al. 2018, sec. 2.5); 0 allows it.
    """
    rows, device = len(starts), starts.device
    tokens = starts.unsqueeze(1).expand(rows, beam_size)
    # All beams begin alike: only the first may spread, else the search would hold copies of one sequence.
    alive = [[0.0] + [_DEAD] * (beam_size - 1) for _ in range(rows)]
    written: _Paths = [[()] * beam_size for _ in range(rows)]
    # In which place each beam's sequence stood at each step before.
    places: _Paths = [[()] * beam_size for _ in range(rows)]
    attended: list[Tensor] = []
    finished: list[list[Hypothesis]] = [[] for _ in range(rows)]
    for length in range(1, max_length + 1):
        certain = partial(_agreed, written[0], alive[0], finished[0])
        log_probabilities, state, weights = yield StepCall(tokens, state, memory, certain)
        if no_repeat:
            log_probabilities = _without_repeats(log_probabilities, written, no_repeat)
        attended.append(weights)
        so_far = torch.tensor(alive, dtype=log_probabilities.dtype, device=device)
        candidates = (so_far.unsqueeze(2) + log_probabilities).flatten(1)
        # At most beam_size of these can end, so beam_size others are left to go on.
        totals, flat = (found.tolist() for found in candidates.topk(min(2 * beam_size, candidates.shape[1]), 1))
        vocabulary = log_probabilities.shape[2]
        kept = []
        for row in range(rows):
            going: list[tuple[float, int, int]] = []
            for rank, (total, place) in enumerate(zip(totals[row], flat[row], strict=True)):
                parent, token = divmod(place, vocabulary)
                if token != end and length < max_length:
                    going.append((total, parent, token))
                elif rank < beam_size and len(finished[row]) < beam_size and total != _DEAD:
                    ids = [*written[row][parent]] if token == end else [*written[row][parent], token]
                    attention = _along((*places[row][parent], parent), attended, row)[: len(ids)]
                    finished[row].append(Hypothesis(ids, total, total / length**length_penalty, attention))
            kept.append((going + [(_DEAD, 0, end)] * beam_size)[:beam_size])
        if all(len(hypotheses) >= beam_size for hypotheses in finished):
            break
        alive = [[total for total, _, _ in row] for row in kept]
        parents = torch.tensor([[index * beam_size + parent for _, parent, _ in row] for index, row in enumerate(kept)])
        tokens = torch.tensor([[token for _, _, token in row] for row in kept], device=device)
        state = {name: _pick(value, parents.to(device)) for name, value in state.items()}
        written = [[(*old[at], token) for _, at, token in row] for old, row in zip(written, kept, strict=True)]
        places = [[(*old[at], at) for _, at, _ in row] for old, row in zip(places, kept, strict=True)]
    return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in finished]


def _agreed(written: Sequence[Sequence[int]], alive: Sequence[float], finished: Sequence[Hypothesis]) -> list[int]:
    """The tokens that every sequence of a row which may still win begins with: these will not change any more."""
    rivals = [path for path, total in zip(written, alive, strict=True) if total != _DEAD]
    prefix = []
    for column in zip(*rivals, *(hypothesis.tokens for hypothesis in finished), strict=False):
        if len(set(column)) > 1:
            break
        prefix.append(column[0])
    return prefix


def _without_repeats(log_probabilities: Tensor, written: _Paths, order: int) -> Tensor:
    """Scores [B, K, V] where no token would complete an n-gram that its row's and beam's ``written`` has already."""
    banned = []
    for row, group in enumerate(written):
        for column, ids in enumerate(group):
            last = ids[len(ids) - order + 1 :]
            starts = range(len(ids) - order + 1)
            banned += [(row, column, ids[at + order - 1]) for at in starts if ids[at : at + order - 1] == last]
    if not banned:
        return log_probabilities
    rows, columns, tokens = torch.tensor(banned, device=log_probabilities.device).unbind(1)
    return log_probabilities.index_put((rows, columns, tokens), log_probabilities.new_tensor(_DEAD))


def _along(path: tuple[int, ...], attended: Sequence[Tensor], row: int) -> Tensor:
    """The weights [T, N] of a sequence that stood in place ``path[t]`` at step t."""
    return torch.stack([step[row] for step in attended])[torch.arange(len(path)), torch.tensor(path)]


def _pick(value: Tensor, parents: Tensor) -> Tensor:
    """``value`` [B, K, ...] with what stands at ``parents`` [B, K], counted over all rows, in their place."""
    return value.flatten(0, 1).index_select(0, parents.flatten()).view(*parents.shape, *value.shape[2:])
