"""Batched beam search with length normalization (Wu et al. 2016, sec. 7, with the plain |Y|^alpha of Jean et al. 2015).

Knows nothing of captions: it searches whatever network keeps to the ``Decoder`` contract.
"""

from functools import partial

import torch
from torch import Tensor

from models.decoding.decoder import Decoder, Hypothesis, Memory, Search, StepCall, run
from models.state import State


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
    """The ``beam_size`` best sequences of each row, best first: ``beam_steps`` run to its end."""
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
    """Search step by step; returns the ``beam_size`` best sequences of each row, best first.

    Args:
        state: tensors [B, beam_size, ...], all beams alike.
        starts: first token of each row, int64 [B].
        end: the token that finishes a sequence; one that reaches ``max_length`` tokens is finished as it is.
        length_penalty: alpha in score = log p / length ** alpha; 0 prefers short sequences, 1 long ones.
        no_repeat: no sequence may hold the same n-gram of this order twice (Paulus et al. 2018, sec. 2.5); 0 allows it.
    """
    rows = len(starts)
    device = starts.device
    tokens = starts.unsqueeze(1).expand(rows, beam_size)
    # All beams begin alike: only the first may spread, else the search would hold copies of one sequence.
    alive = torch.full((rows, beam_size), float("-inf"), device=device)
    alive[:, 0] = 0
    written = torch.empty(rows, beam_size, 0, dtype=torch.int64, device=device)
    attended: list[Tensor] = []
    finished: list[list[Hypothesis]] = [[] for _ in range(rows)]
    for length in range(1, max_length + 1):
        certain = partial(_agreed, written[0], alive[0], finished[0])
        log_probabilities, state, weights = yield StepCall(tokens, state, memory, certain)
        if no_repeat:
            log_probabilities = _without_repeats(log_probabilities, written, no_repeat)
        vocabulary = log_probabilities.shape[2]
        candidates = (alive.unsqueeze(2) + log_probabilities).flatten(1)
        # At most beam_size of these can end, so beam_size others are left to go on.
        totals, flat = candidates.topk(min(2 * beam_size, candidates.shape[1]), 1)
        parents, chosen = flat // vocabulary, flat % vocabulary
        attended = [*attended, weights]
        ends = (chosen == end) if length < max_length else torch.ones_like(chosen, dtype=torch.bool)
        ranks = torch.arange(ends.shape[1], device=device)
        for row, rank in ((ends & (ranks < beam_size)) & totals.isfinite()).nonzero().tolist():
            if len(finished[row]) < beam_size:
                parent, total = int(parents[row, rank]), float(totals[row, rank])
                ids = written[row, parent].tolist()
                if int(chosen[row, rank]) != end:
                    ids.append(int(chosen[row, rank]))
                attention = torch.stack([step[row, parent] for step in attended])[: len(ids)]
                finished[row].append(Hypothesis(ids, total, total / length**length_penalty, attention))
        if all(len(hypotheses) >= beam_size for hypotheses in finished):
            break
        order = torch.argsort(ends.to(torch.int8), dim=1, stable=True)[:, :beam_size]
        parents, tokens = parents.gather(1, order), chosen.gather(1, order)
        alive = totals.masked_fill(ends, float("-inf")).gather(1, order)
        state = {name: _pick(value, parents) for name, value in state.items()}
        attended = [_pick(step, parents) for step in attended]
        written = torch.cat([_pick(written, parents), tokens.unsqueeze(2)], 2)
    return [sorted(hypotheses, key=lambda h: -h.score) for hypotheses in finished]


def _agreed(written: Tensor, alive: Tensor, finished: list[Hypothesis]) -> list[int]:
    """The tokens that every sequence of a row which may still win begins with: these will not change any more."""
    rivals = written[alive.isfinite()].tolist() + [hypothesis.tokens for hypothesis in finished]
    prefix = []
    for column in zip(*rivals, strict=False):
        if len(set(column)) > 1:
            break
        prefix.append(column[0])
    return prefix


def _without_repeats(log_probabilities: Tensor, written: Tensor, order: int) -> Tensor:
    """Scores [B, K, V] where no token would complete an n-gram that ``written`` [B, K, T] has already."""
    banned = []
    for row, group in enumerate(written.tolist()):
        for column, ids in enumerate(group):
            last = ids[len(ids) - order + 1 :]
            starts = range(len(ids) - order + 1)
            banned += [(row, column, ids[at + order - 1]) for at in starts if ids[at : at + order - 1] == last]
    if not banned:
        return log_probabilities
    rows, columns, tokens = torch.tensor(banned, device=written.device).unbind(1)
    return log_probabilities.index_put((rows, columns, tokens), log_probabilities.new_tensor(float("-inf")))


def _pick(value: Tensor, beams: Tensor) -> Tensor:
    """``value`` [B, K, ...] with beam ``beams[b, k]`` in place k."""
    index = beams.reshape(*beams.shape, *([1] * (value.ndim - 2))).expand(*beams.shape, *value.shape[2:])
    return value.gather(1, index)
