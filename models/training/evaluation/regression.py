"""How far the served numbers are from the true ones."""

from typing import Any

import numpy as np

from models.pipeline import Pipeline
from models.training.evaluation.answers import answered
from models.training.examples import Split
from models.training.manifest import DataError
from models.training.metrics.numbers import number_figures


def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Mean absolute error and correlation with intervals.

    Raises:
        DataError: the examples have another number of targets than the checkpoint gives.
    """
    found = answered(pipeline, split)
    guesses = np.array([_numbers(answer) for answer in found.answers], np.float64)
    truth = np.array(found.targets, np.float64)
    if guesses.shape != truth.shape:
        raise DataError(f"the checkpoint gives {guesses.shape[1]} numbers, and {split.name}.jsonl has {truth.shape[1]}")
    return found.intervals(number_figures(guesses, truth))


def _numbers(answer: Any) -> Any:
    """The numbers of a bundle's result, or of a step, which is a list of them already."""
    if isinstance(answer, list):
        return answer
    return answer.values if answer.value is None else [answer.value]
