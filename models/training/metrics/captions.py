"""Figures of captions against several references each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.bleu import bleu, bleu_statistics
from models.training.metrics.cider import CiderD
from models.training.metrics.figures import Figures


def sentence_figures(written: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> Figures:
    """BLEU-1..4 and CIDEr-D, each in percent."""
    scorer = CiderD(references)
    pairs = list(zip(written, references, strict=True))
    ciders = np.array([scorer.score(words, scorer.prepare(truths)) for words, truths in pairs])
    counts = np.stack([bleu_statistics(words, truths) for words, truths in pairs])

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([*bleu(counts[rows].sum(0)), 100 * ciders[rows].mean()])

    return Figures(("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider_d"), len(pairs), statistic)
