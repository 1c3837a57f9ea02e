"""Figures of classification: accuracy, macro-averaged F1, and how far probabilities can be believed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.metrics.figures import Figures


def class_figures(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> Figures:
    """``accuracy``, ``macro_f1`` and ``cross_entropy`` (nats) of probabilities [N, C] against class indices [N]."""
    guesses, classes = probabilities.argmax(1), probabilities.shape[1]
    surprises = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], 1e-12))

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        table = confusion(guesses[rows], truth[rows], classes)
        return np.array([np.trace(table) / len(rows), macro_f1(table), surprises[rows].mean()])

    return Figures(("accuracy", "macro_f1", "cross_entropy"), len(truth), statistic)


def calibrated_figures(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], groups: Sequence[int] | None = None
) -> dict[str, Any]:
    """``class_figures`` with intervals, over ``groups`` where steps belong together, and how well calibrated they are.

    Keys as ``metrics.json`` has them.
    """
    return class_figures(probabilities, truth).grouped(groups).intervals() | {
        "expected_calibration_error": round(expected_calibration_error(probabilities, truth), 4)
    }


def confusion(guesses: NDArray[np.int64], truth: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Counts [C, C]: rows are true classes, columns guessed ones."""
    return np.bincount(truth * classes + guesses, minlength=classes * classes).reshape(classes, classes)


def macro_f1(table: NDArray[np.int64]) -> float:
    """Mean over the classes that occur, in the truth or the guesses, of F1 = 2 TP / (2 TP + FP + FN)."""
    hits, occurred = np.diagonal(table), table.sum(0) + table.sum(1)
    return float((2 * hits[occurred > 0] / occurred[occurred > 0]).mean())


def expected_calibration_error(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], *, bins: int = 15
) -> float:
    """Mean distance, 0..1, of confidence from accuracy over bins of equal width (Guo et al. 2017, equation 3)."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == truth
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))
