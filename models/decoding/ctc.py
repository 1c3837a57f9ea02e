"""From the log-probabilities of a CTC network to token sequences: best path, and prefix beam search.

A path has one token or blank a step; the sequence that it spells has repetitions merged, then blanks removed
(Graves et al. 2006). All probabilities are natural logarithms.
"""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.decoding.decoder import drain
from models.decoding.grammar import Grammar

_NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class Transcript:
    """A sequence of tokens and its log-probability: of the one best path, or of all paths that the search followed."""

    tokens: list[int]
    log_probability: float


def best_path(log_probabilities: Tensor, lengths: Tensor, *, blank: int) -> list[Transcript]:
    """What the most probable path of each row spells, for [B, T, V] of ``lengths`` int64 [B]."""
    scores, tokens = log_probabilities.max(2)
    before = torch.cat([torch.full_like(tokens[:, :1], blank), tokens[:, :-1]], 1)
    written = (tokens != blank) & (tokens != before)
    return [
        Transcript(tokens[row, :length][written[row, :length]].tolist(), float(scores[row, :length].sum()))
        for row, length in enumerate(lengths.tolist())
    ]


def prefix_beam_search(
    log_probabilities: Tensor, lengths: Tensor, *, blank: int, beam_size: int, grammar: Grammar | None = None
) -> list[list[Transcript]]:
    """The most probable sequences of each row, best first: ``prefix_beam_steps`` run to its end, row by row."""
    return [
        drain(prefix_beam_steps(row[:length], blank=blank, beam_size=beam_size, grammar=grammar))
        for row, length in zip(log_probabilities, lengths.tolist(), strict=True)
    ]


def prefix_beam_steps(
    log_probabilities: Tensor, *, blank: int, beam_size: int, grammar: Grammar | None = None
) -> Generator[list[int], None, list[Transcript]]:
    """CTC prefix beam search (Hannun et al. 2014, algorithm 1) over one row [T, V], in log domain.

    Sums over the paths of each prefix, apart for those that end with a blank and those that do not. Yields after each
    step the tokens that every surviving prefix begins with, which will not change any more; returns at most
    ``beam_size`` sequences, best first. It is exact where ``beam_size`` exceeds the number of prefixes.

    With a grammar, only prefixes that it allows and that the steps left can still complete survive, so whole sentences
    are returned; a row of fewer steps than places gives the best beginnings instead.
    """
    scores: NDArray[np.float64] = log_probabilities.detach().cpu().double().numpy()
    frames, vocabulary = scores.shape
    # No grammar allows everything: one place that never ends.
    allowed = np.ones((1, vocabulary), dtype=bool) if grammar is None else grammar.allowed
    places = 0 if grammar is None or grammar.places > frames else grammar.places
    prefixes: list[tuple[int, ...]] = [()]
    ends_blank, ends_token = np.zeros(1), np.full(1, _NEVER)
    for frame, step in enumerate(scores):
        rows = np.arange(len(prefixes))
        sizes = np.array([len(prefix) for prefix in prefixes])
        last = np.array([prefix[-1] if prefix else blank for prefix in prefixes])
        total = np.logaddexp(ends_blank, ends_token)
        stays_blank = total + step[blank]
        stays_token = ends_token + step[last]
        grown = total[:, None] + step[None, :]
        # A repetition is a token of its own only after a blank.
        grown[rows, last] = ends_blank + step[last]
        grown[:, blank] = _NEVER
        grown[~allowed[np.minimum(sizes, len(allowed) - 1)]] = _NEVER
        _merge(prefixes, stays_token, grown)
        too_short = sizes < places - (frames - frame - 1)
        stays_blank[too_short] = stays_token[too_short] = _NEVER
        grown[sizes + 1 < places - (frames - frame - 1)] = _NEVER
        candidates = np.concatenate([np.logaddexp(stays_blank, stays_token), grown.ravel()])
        best = _best(candidates, beam_size)
        parents, tokens = np.divmod(best - len(prefixes), vocabulary)
        kept = best < len(prefixes)
        ends_blank = np.where(kept, stays_blank[np.where(kept, best, 0)], _NEVER)
        ends_token = np.where(kept, stays_token[np.where(kept, best, 0)], candidates[best])
        prefixes = [
            prefixes[index] if index < len(prefixes) else (*prefixes[parent], token)
            for index, parent, token in zip(best.tolist(), parents.tolist(), tokens.tolist(), strict=True)
        ]
        yield _common(prefixes)
    totals = np.logaddexp(ends_blank, ends_token)
    found = [Transcript(list(prefix), float(value)) for prefix, value in zip(prefixes, totals, strict=True)]
    return sorted(found, key=lambda transcript: -transcript.log_probability)


def _merge(prefixes: list[tuple[int, ...]], stays: NDArray[np.float64], grown: NDArray[np.float64]) -> None:
    """A prefix that another one grows into is one and the same: the paths of both are added up."""
    index = {prefix: row for row, prefix in enumerate(prefixes)}
    for row, prefix in enumerate(prefixes):
        parent = index.get(prefix[:-1]) if prefix else None
        if parent is not None:
            stays[row] = np.logaddexp(stays[row], grown[parent, prefix[-1]])
            grown[parent, prefix[-1]] = _NEVER


def _best(candidates: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of the ``count`` highest candidates that are possible at all, at least one, in no particular order."""
    best = np.argpartition(-candidates, count - 1)[:count] if count < len(candidates) else np.arange(len(candidates))
    possible = best[candidates[best] > _NEVER]
    return possible if len(possible) else best[:1]


def _common(prefixes: list[tuple[int, ...]]) -> list[int]:
    columns = takewhile(lambda column: len(set(column)) == 1, zip(*prefixes, strict=False))
    return [column[0] for column in columns]
