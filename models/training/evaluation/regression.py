"""How far the served numbers are from the true ones."""

from typing import Any

import numpy as np

from models.pipeline import Pipeline
from models.training.evaluation.answers import answers
from models.training.examples import Split
from models.training.manifest import DataError
from models.training.metrics.numbers import number_figures


def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Mean absolute error and correlation with intervals.

    Raises:
        DataError: the examples have another number of targets than the checkpoint gives.
    """
    results = answers(pipeline, split)
    guesses = np.array([result.values if result.value is None else [result.value] for result in results], np.float64)
    truth = np.array([example.target for example in split.examples], np.float64)
    if guesses.shape != truth.shape:
        raise DataError(f"the checkpoint gives {guesses.shape[1]} numbers, and {split.name}.jsonl has {truth.shape[1]}")
    return number_figures(guesses, truth).intervals()
