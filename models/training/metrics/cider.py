"""CIDEr-D (Vedantam et al. 2015): tf-idf weighted n-gram agreement with several references, clipped, length-damped."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from models.training.metrics.ngrams import ORDERS, Ngram, ngrams

SIGMA = 6.0

_Vector: TypeAlias = tuple[dict[Ngram, float], ...]


class CiderD:
    """Scores sentences against references; document frequencies come from ``corpus``, the references of each photo."""

    def __init__(self, corpus: Sequence[Sequence[Sequence[str]]]) -> None:
        frequency: Counter[Ngram] = Counter()
        for references in corpus:
            frequency.update({gram for reference in references for counts in ngrams(reference) for gram in counts})
        self._documents = math.log(max(len(corpus), 1))
        self._idf = {gram: self._documents - math.log(count) for gram, count in frequency.items()}

    def prepare(self, references: Iterable[Sequence[str]]) -> list[tuple[_Vector, list[float], int]]:
        """References of one photo as vectors, to be scored against many times."""
        return [self._vector(reference) for reference in references]

    def score(self, hypothesis: Sequence[str], prepared: list[tuple[_Vector, list[float], int]]) -> float:
        """CIDEr-D of one sentence, 0 to 10 (papers print it times 10 or 100 after averaging over photos)."""
        vector, norms, length = self._vector(hypothesis)
        total = 0.0
        for reference, reference_norms, reference_length in prepared:
            damping = math.exp(-((length - reference_length) ** 2) / (2 * SIGMA**2))
            for order in range(len(ORDERS)):
                norm = norms[order] * reference_norms[order]
                if norm == 0:
                    continue
                target = reference[order]
                agreement = sum(
                    min(weight, target[gram]) * target[gram] for gram, weight in vector[order].items() if gram in target
                )
                total += damping * agreement / norm
        return 10 * total / (len(ORDERS) * len(prepared))

    def _vector(self, words: Sequence[str]) -> tuple[_Vector, list[float], int]:
        vector = tuple(
            {gram: count * self._idf.get(gram, self._documents) for gram, count in counts.items()}
            for counts in ngrams(words)
        )
        norms = [math.sqrt(sum(weight * weight for weight in order.values())) for order in vector]
        # The reference implementation takes the number of bigrams for the length.
        return vector, norms, max(len(words) - 1, 0)
