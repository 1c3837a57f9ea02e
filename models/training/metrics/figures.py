"""Figures over a set of examples, with their values and intervals from the same code."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.intervals import bootstrap


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures called ``names``; ``statistic(rows)`` gives their values [F] over some of ``count`` examples."""

    names: tuple[str, ...]
    count: int
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]]

    def grouped(self, sizes: Sequence[int] | None) -> "Figures":
        """The same figures over groups of neighbouring examples, ``sizes`` [G] of which are in each; None: one.

        Intervals then draw whole groups (cluster bootstrap: Davison and Hinkley 1997, ch. 3): the steps of one sequence
        depend on each other, and drawing them one by one would make a figure look surer than it is.
        """
        if sizes is None:
            return self
        members = np.split(np.arange(self.count), np.cumsum(sizes)[:-1])
        return Figures(
            self.names, len(sizes), lambda rows: self.statistic(np.concatenate([members[row] for row in rows]))
        )

    def values(self) -> dict[str, float]:
        """The figures over all examples."""
        everything = self.statistic(np.arange(self.count))
        return {name: float(value) for name, value in zip(self.names, everything, strict=True)}

    def intervals(self, *, rounds: int = 1000) -> dict[str, list[float]]:
        """Each figure as [value, low, high] with the bounds of its 95 % bootstrap interval, rounded by ``rounded``."""
        low, high = bootstrap(self.statistic, self.count, rounds=rounds)
        return {
            name: [rounded(float(bound)) for bound in (value, low[i], high[i])]
            for i, (name, value) in enumerate(self.values().items())
        }


def rounded(value: float) -> float:
    """Four decimals; below 0.001, where they would say little or nothing of an error in a small unit, four digits."""
    if value == 0 or not math.isfinite(value) or abs(value) >= 1e-3:
        return round(value, 4)
    return float(f"{value:.4g}")
