"""How sure a figure is, given that another sample of examples could have been drawn."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], count: int, *, rounds: int = 1000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds of the 95 % percentile interval (Efron 1979) of the figures that ``statistic(rows)`` returns.

    Args:
        statistic: figures [F] for the examples whose indices (with repeats) it is given.
        count: how many examples there are.
    """
    rng = np.random.default_rng(seed)
    drawn = np.stack([statistic(rng.integers(0, count, count)) for _ in range(rounds)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return low, high
