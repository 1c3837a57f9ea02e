"""What a network must beat: the answer that needs no input."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.training.metrics.classes import class_figures
from models.training.metrics.figures import Figures
from models.training.metrics.numbers import number_figures


def without_input(
    task: str, train: Sequence[Any], val: Sequence[Any], groups: Sequence[int] | None = None
) -> dict[str, dict[str, list[float]]]:
    """Figures on ``val`` of the best constant answer by ``train``, by its name; none for tasks that have no such.

    Classes: the most frequent one. Numbers: the median, which no constant beats in absolute error.

    Args:
        groups: how many neighbours in ``val`` belong together, as the steps of an example do; None where none do.
    """
    if task == "classification":
        labels = sorted({*train, *val})
        most = max(sorted(Counter(train).items()), key=lambda item: item[1])[0]
        guess = np.zeros((len(val), len(labels)))
        guess[:, labels.index(most)] = 1
        places = np.array([labels.index(value) for value in val], np.int64)
        return {f"always '{most}'": _intervals(class_figures(guess, places), groups)}
    if task == "regression":
        truth = np.array(val, np.float64)
        guess = np.zeros_like(truth) + np.median(np.array(train, np.float64), 0)
        return {"always the median": _intervals(number_figures(guess, truth), groups)}
    return {}


def _intervals(figures: Figures, groups: Sequence[int] | None) -> dict[str, list[float]]:
    return (figures if groups is None else figures.grouped(groups)).intervals()
