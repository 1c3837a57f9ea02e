"""What a ``sentiment`` checkpoint answers as it is served."""

from pathlib import Path
from typing import Any

import numpy as np

from models.pipeline import Pipeline
from models.training.metrics.classes import class_figures
from models.training.recipes.sentiment.texts import Texts


def positive(pipeline: Pipeline, text: str) -> float:
    """The probability of ``positive``."""
    answer = pipeline.answer({"text": text}).model_dump()
    return next(float(one["probability"]) for one in answer["predictions"] if one["label"] == "positive")


def served_figures(checkpoint: Path, asked: Texts) -> dict[str, Any]:
    """Accuracy over texts, with its interval."""
    pipeline = Pipeline.load(checkpoint)
    said = [positive(pipeline, text) for text in asked.texts]
    probabilities = np.array([[1 - value, value] for value in said])
    return {
        "n": len(said),
        "accuracy": class_figures(probabilities, asked.classes.numpy()).intervals()["accuracy"],
    }
