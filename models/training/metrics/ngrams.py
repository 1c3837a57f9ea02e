"""N-gram counts that the caption metrics share."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

Ngram: TypeAlias = tuple[str, ...]
ORDERS = (1, 2, 3, 4)


def ngrams(words: Sequence[str]) -> tuple[Counter[Ngram], ...]:
    """Counts of the 1-grams to 4-grams of a sentence, one counter an order."""
    return tuple(Counter(zip(*(words[start:] for start in range(order)), strict=False)) for order in ORDERS)
