"""A finite grammar: sentences of a fixed number of places, each with the words that it may hold."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Grammar:
    """``places`` of token ids, as masks over the vocabulary: ``allowed`` is bool [places + 1, V].

    ``least`` int64 [places + 1, V] counts the steps that a CTC path needs to end, by how many places it has filled and
    by the token that it stands at: one a place, and a blank more between two of the same token.
    """

    def __init__(self, places: Sequence[Sequence[int]], vocabulary: int) -> None:
        """A grammar of at least one place.

        Raises:
            ValueError: a place is empty, or a token is not in the vocabulary.
        """
        if not places or not all(places):
            raise ValueError("a grammar needs at least one place, and each place at least one word")
        self.places = len(places)
        # The row after the last place allows nothing: the sentence is over.
        self.allowed: NDArray[np.bool_] = np.zeros((self.places + 1, vocabulary), dtype=bool)
        for place, tokens in enumerate(places):
            strange = [token for token in tokens if not 0 <= token < vocabulary]
            if strange:
                raise ValueError(f"place {place + 1} of the grammar holds the token {strange[0]} of {vocabulary}")
            self.allowed[place, list(tokens)] = True
        self.least: NDArray[np.int64] = np.zeros((self.places + 1, vocabulary), dtype=np.int64)
        for place in reversed(range(self.places)):
            ids = np.flatnonzero(self.allowed[place])
            steps = 1 + self.least[place + 1, ids]
            first, *second = np.argsort(steps, kind="stable")[:2]
            self.least[place] = steps[first]
            self.least[place, ids[first]] = min([steps[first] + 1, *steps[second]])
