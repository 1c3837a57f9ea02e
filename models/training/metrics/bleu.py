"""BLEU-1 to BLEU-4 over a corpus (Papineni et al. 2002), with the closest reference length as the COCO toolkit does."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.ngrams import ORDERS, Ngram, ngrams


def bleu_statistics(hypothesis: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """What one sentence adds to the corpus: matches and totals of each order, its length, the closest reference's."""
    limits: list[Counter[Ngram]] = [Counter() for _ in ORDERS]
    for reference in references:
        limits = [limit | counts for limit, counts in zip(limits, ngrams(reference), strict=True)]
    matches = [(counts & limit).total() for counts, limit in zip(ngrams(hypothesis), limits, strict=True)]
    totals = [max(len(hypothesis) - order + 1, 0) for order in ORDERS]
    closest = min((abs(len(reference) - len(hypothesis)), len(reference)) for reference in references)[1]
    return np.array([*matches, *totals, len(hypothesis), closest])


def bleu(statistics: NDArray[np.int64]) -> list[float]:
    """BLEU-1..4 in percent for the sum of sentences' statistics ([10])."""
    matches, totals, (length, reference) = statistics[:4], statistics[4:8], statistics[8:]
    if length == 0:
        return [0.0] * len(ORDERS)
    brevity = min(1.0, math.exp(1 - reference / length))
    scores, product = [], 1.0
    for order, match, total in zip(ORDERS, matches, totals, strict=True):
        product *= match / total if total else 0.0
        scores.append(100 * brevity * product ** (1 / order))
    return scores
