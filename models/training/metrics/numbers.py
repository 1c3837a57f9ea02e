"""Figures of regression."""

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.figures import Figures


def number_figures(guesses: NDArray[np.float64], truth: NDArray[np.float64]) -> Figures:
    """``mae`` in the data's unit, and Pearson's ``correlation``, the mean over outputs; both arrays are [N, K].

    Where K > 1 each output has a ``mae[k]`` of its own, for their units may differ.
    """
    outputs = truth.shape[1]

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        guess, true = guesses[rows], truth[rows]
        return np.append(np.abs(guess - true).mean(0), correlation(guess, true))

    errors = ("mae",) if outputs == 1 else tuple(f"mae[{output}]" for output in range(outputs))
    return Figures((*errors, "correlation"), len(truth), statistic)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's correlation of columns, averaged; 0 for a column that does not vary."""
    # Not by the scale: less its rounded mean, a column of one value need not be 0.
    varies = (np.ptp(a, 0) > 0) & (np.ptp(b, 0) > 0)
    a, b = a - a.mean(0), b - b.mean(0)
    scale = np.sqrt((a**2).sum(0) * (b**2).sum(0))
    return float(np.divide((a * b).sum(0), scale, out=np.zeros_like(scale), where=varies & (scale > 0)).mean())
