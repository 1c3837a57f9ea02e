"""How often the served label is right, and how far its probability can be believed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.pipeline import Pipeline
from models.training.evaluation.answers import answers
from models.training.examples import Split
from models.training.manifest import DataError
from models.training.metrics.classes import class_figures, expected_calibration_error


def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Accuracy, macro-F1 and cross-entropy with intervals, and the expected calibration error."""
    probabilities, truth = class_answers(pipeline, split)
    return class_figures(probabilities, truth).intervals() | {
        "expected_calibration_error": round(expected_calibration_error(probabilities, truth), 4)
    }


def class_answers(pipeline: Pipeline, split: Split) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Served probabilities [N, C] and true classes [N], in the order of the checkpoint's labels.

    Raises:
        DataError: an example has a label that the checkpoint does not know.
    """
    labels = pipeline.config.labels or []
    places = {label: index for index, label in enumerate(labels)}
    for example in split.examples:
        if example.target not in places:
            raise DataError(
                f"{split.name}.jsonl, {example.name()}, has the label '{example.target}', which the checkpoint does "
                f"not know: {', '.join(labels[:20])}"
            )
    results = answers(pipeline, split, top_k=len(labels))
    probabilities = np.zeros((len(results), len(labels)))
    for row, result in enumerate(results):
        for prediction in result.predictions:
            probabilities[row, places[prediction.label]] = prediction.probability
    return probabilities, np.array([places[example.target] for example in split.examples], np.int64)
