"""The beam of a CTC prefix search (Hannun et al. 2014, algorithm 1), step by step, so that it can follow a stream."""

from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from models.decoding.grammar import Grammar

_NEVER = -np.inf


class PrefixBeam:
    """At most ``size`` prefixes with the log-probabilities of their paths: those that end with a blank, and the others.

    With a grammar, only prefixes that it allows survive.
    """

    def __init__(self, vocabulary: int, *, blank: int, size: int, grammar: Grammar | None = None) -> None:
        self.blank, self.size, self.grammar = blank, size, grammar
        # No grammar allows everything: one place that never ends.
        self._allowed = np.ones((1, vocabulary), dtype=bool) if grammar is None else grammar.allowed
        self.prefixes: list[tuple[int, ...]] = [()]
        self.ends_blank: NDArray[np.float64] = np.zeros(1)
        self.ends_token: NDArray[np.float64] = np.full(1, _NEVER)

    def advance(self, step: NDArray[np.float64], left: int | None = None) -> None:
        """Take in one step's log-probabilities [V].

        Args:
            left: the steps that follow, if that is known: paths that the grammar needs more of to end are given up.
        """
        prefixes, blank = self.prefixes, self.blank
        vocabulary = len(step)
        rows = np.arange(len(prefixes))
        sizes = np.array([len(prefix) for prefix in prefixes])
        last = np.array([prefix[-1] if prefix else blank for prefix in prefixes])
        total = np.logaddexp(self.ends_blank, self.ends_token)
        stays_blank = total + step[blank]
        stays_token = self.ends_token + step[last]
        grown = total[:, None] + step[None, :]
        # A repetition is a token of its own only after a blank.
        grown[rows, last] = self.ends_blank + step[last]
        grown[:, blank] = _NEVER
        grown[~self._allowed[np.minimum(sizes, len(self._allowed) - 1)]] = _NEVER
        _merge(prefixes, stays_token, grown)
        if self.grammar is not None and left is not None:
            late = self.grammar.least > left
            # Behind a blank any token is a new one, as behind none at all.
            stays_blank[late[sizes, blank]] = _NEVER
            stays_token[late[sizes, last]] = _NEVER
            grown[late[np.minimum(sizes + 1, self.grammar.places)]] = _NEVER
        candidates = np.concatenate([np.logaddexp(stays_blank, stays_token), grown.ravel()])
        best = _best(candidates, self.size)
        parents, tokens = np.divmod(best - len(prefixes), vocabulary)
        kept = best < len(prefixes)
        self.ends_blank = np.where(kept, stays_blank[np.where(kept, best, 0)], _NEVER)
        self.ends_token = np.where(kept, stays_token[np.where(kept, best, 0)], candidates[best])
        self.prefixes = [
            prefixes[index] if index < len(prefixes) else (*prefixes[parent], token)
            for index, parent, token in zip(best.tolist(), parents.tolist(), tokens.tolist(), strict=True)
        ]

    def common(self) -> list[int]:
        """The tokens that every prefix begins with, which will not change any more."""
        columns = takewhile(lambda column: len(set(column)) == 1, zip(*self.prefixes, strict=False))
        return [column[0] for column in columns]

    def ranked(self) -> list[tuple[list[int], float]]:
        """The prefixes with their log-probabilities, best first."""
        totals = np.logaddexp(self.ends_blank, self.ends_token).tolist()
        found = [(list(prefix), total) for prefix, total in zip(self.prefixes, totals, strict=True)]
        return sorted(found, key=lambda each: -each[1])

    def numbers(self) -> list[float]:
        """All of it, as numbers; each step's best is counted as 0, so they stay small for ever."""
        ranked = max(np.logaddexp(self.ends_blank, self.ends_token))
        values: list[float] = []
        for prefix, blank, token in zip(self.prefixes, self.ends_blank, self.ends_token, strict=True):
            values += [len(prefix), *prefix, max(blank - ranked, -1e30), max(token - ranked, -1e30)]
        return [float(len(self.prefixes)), *map(float, values)]

    def restore(self, numbers: list[float]) -> list[float]:
        """Go on from ``numbers``; returns those that follow.

        Raises:
            ValueError: they are not what ``numbers`` returned.
        """
        values = iter(numbers)
        try:
            prefixes, blanks, tokens = [], [], []
            for _ in range(int(next(values))):
                prefixes.append(tuple(int(next(values)) for _ in range(int(next(values)))))
                blanks.append(next(values))
                tokens.append(next(values))
        except (StopIteration, RuntimeError) as error:
            raise ValueError("not the state of a beam") from error
        self.prefixes = prefixes
        self.ends_blank, self.ends_token = (
            np.where(np.array(each) <= -1e30, _NEVER, each) for each in (blanks, tokens)
        )
        return list(values)


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
