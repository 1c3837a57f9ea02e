"""When each token of a known sequence was said: the best path that spells it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Span:
    """The steps ``start`` <= t < ``end`` that write ``token``, and the mean log-probability with which they do."""

    token: int
    start: int
    end: int
    log_probability: float


def align(log_probabilities: Tensor, tokens: Sequence[int], *, blank: int) -> list[Span]:
    """Viterbi search over the paths that spell ``tokens``: one span a token, in order and apart.

    Args:
        log_probabilities: natural, of a CTC network's steps [T, V].

    Raises:
        ValueError: there are too few steps for any such path.
    """
    if not tokens:
        return []
    scores: NDArray[np.float64] = log_probabilities.detach().cpu().double().numpy()
    # blank, token, blank, token, ..., blank: a path stays, goes on by one, or leaps over a blank between two
    # different tokens (Graves et al. 2006, fig. 3).
    states = np.full(2 * len(tokens) + 1, blank)
    states[1::2] = tokens
    leaps = np.zeros(len(states), dtype=bool)
    leaps[3::2] = states[3::2] != states[1:-2:2]
    value = np.full(len(states), -np.inf)
    value[:2] = scores[0, states[:2]]
    moves = np.zeros((len(scores), len(states)), dtype=np.int64)
    for frame in range(1, len(scores)):
        one = np.concatenate([[-np.inf], value[:-1]])
        two = np.where(leaps, np.concatenate([[-np.inf, -np.inf], value[:-2]]), -np.inf)
        choices = np.stack([value, one, two])
        moves[frame] = choices.argmax(0)
        value = choices.max(0) + scores[frame, states]
    state = len(states) - 1 if value[-1] >= value[-2] else len(states) - 2
    if value[state] == -np.inf:
        raise ValueError(f"{len(scores)} steps are too few to spell {len(tokens)} tokens")
    path = np.empty(len(scores), dtype=np.int64)
    for frame in range(len(scores) - 1, -1, -1):
        path[frame] = state
        state -= moves[frame, state]
    return [_span(scores, path, place, token) for place, token in enumerate(tokens)]


def _span(scores: NDArray[np.float64], path: NDArray[np.int64], place: int, token: int) -> Span:
    steps = np.flatnonzero(path == 2 * place + 1)
    return Span(token, int(steps[0]), int(steps[-1]) + 1, float(scores[steps, token].mean()))
