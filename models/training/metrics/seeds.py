"""How sure a mean over seeds is."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray


def t_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half width of its 95 % interval by Student's t; a half width of NaN for a single value."""
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        return float(sample.mean()), math.nan
    error = sample.std(ddof=1) / math.sqrt(len(sample))
    return float(sample.mean()), t_quantile(len(sample) - 1) * float(error)


@cache
def t_quantile(freedom: int, *, steps: int = 100_000) -> float:
    """The 97.5 % quantile of Student's t with ``freedom`` degrees of freedom.

    With t = sqrt(freedom) tan(a) the density becomes proportional to cos(a) ** (freedom - 1), which is summed up to
    the angle that leaves 2.5 % of the whole above it.
    """
    angles = np.linspace(0, math.pi / 2, steps + 1)
    density = np.cos(angles) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(0.95, mass / mass[-1], angles)))
