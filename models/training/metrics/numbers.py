"""Figures of regression."""

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.figures import Figures


def number_figures(guesses: NDArray[np.float64], truth: NDArray[np.float64]) -> Figures:
    """``mae`` in the data's unit and Pearson's ``correlation``, each the mean over outputs; both arrays are [N, K]."""

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        guess, true = guesses[rows], truth[rows]
        return np.array([np.abs(guess - true).mean(), correlation(guess, true)])

    return Figures(("mae", "correlation"), len(truth), statistic)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of columns, averaged; 0 for a column that does not vary."""
    # Not by the scale: less its rounded mean, a column of one value need not be 0.
    varies = (np.ptp(a, 0) > 0) & (np.ptp(b, 0) > 0)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(np.divide((a * b).sum(0), scale, out=np.zeros_like(scale), where=varies & (scale > 0)).mean())
