"""From the log-probabilities of a CTC network to token sequences: best path, and prefix beam search.

A path has one token or blank a step; the sequence that it spells has repetitions merged, then blanks removed
(Graves et al. 2006). All probabilities are natural logarithms.
"""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.decoding.decoder import drain
from models.decoding.grammar import Grammar
from models.decoding.prefixes import PrefixBeam


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
    are returned; a row of too few steps for any gives the best beginnings instead.
    """
    scores: NDArray[np.float64] = log_probabilities.detach().cpu().double().numpy()
    frames, vocabulary = scores.shape
    beam = PrefixBeam(vocabulary, blank=blank, size=beam_size, grammar=grammar)
    whole = grammar is not None and grammar.least[0, blank] <= frames
    for frame, step in enumerate(scores, 1):
        beam.advance(step, frames - frame if whole else None)
        yield beam.common()
    return [Transcript(tokens, log_probability) for tokens, log_probability in beam.ranked()]
