"""Figures of transcription: how many edits turn what was written into what was said."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.figures import Figures


def word_figures(written: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> Figures:
    """``wer``, edits per word said, and ``sentence_error``, the share of sentences with an edit; both in percent."""
    edits = np.array([edit_distance(w, s) for w, s in zip(written, said, strict=True)])
    lengths = np.array([len(words) for words in said])

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return 100 * np.array([edits[rows].sum() / max(lengths[rows].sum(), 1), (edits[rows] > 0).mean()])

    return Figures(("wer", "sentence_error"), len(edits), statistic)


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest insertions, deletions and substitutions between two sequences (Levenshtein 1966)."""
    last = list(range(len(b) + 1))
    for row, left in enumerate(a, 1):
        current = [row]
        for column, right in enumerate(b, 1):
            current.append(min(last[column] + 1, current[-1] + 1, last[column - 1] + (left != right)))
        last = current
    return last[-1]
