"""How often the served label is right, and how far its probability can be believed."""

from typing import Any

import numpy as np

from models.pipeline import Pipeline
from models.training.evaluation.answers import answered, by_step
from models.training.examples import Split
from models.training.manifest import DataError
from models.training.metrics.classes import calibrated_figures


def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Accuracy, macro-F1 and cross-entropy with intervals, and the expected calibration error.

    Raises:
        DataError: an example has a label that the checkpoint does not know.
    """
    labels = pipeline.config.labels or []
    places = {label: index for index, label in enumerate(labels)}
    for example in split.examples:
        for label in example.target if by_step(pipeline) else (example.target,):
            if label not in places:
                raise DataError(
                    f"{split.name}.jsonl, {example.name()}, has the label '{label}', which the checkpoint does "
                    f"not know: {', '.join(labels[:20])}"
                )
    found = answered(pipeline, split, top_k=len(labels))
    probabilities = np.zeros((len(found.answers), len(labels)))
    for row, answer in enumerate(found.answers):
        for prediction in answer.predictions:
            probabilities[row, places[prediction.label]] = prediction.probability
    truth = np.array([places[label] for label in found.targets], np.int64)
    return calibrated_figures(probabilities, truth, found.groups)
