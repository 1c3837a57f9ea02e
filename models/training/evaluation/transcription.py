"""How many words of the served transcriptions are wrong."""

from typing import Any

from models.features.text import split_words
from models.pipeline import Pipeline
from models.training.evaluation.answers import answers
from models.training.examples import Split
from models.training.metrics.words import word_figures


def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Word and sentence error rates with intervals; case and punctuation do not count, Chinese counts characters."""
    written = [split_words(result.text) for result in answers(pipeline, split)]
    return word_figures(written, [split_words(example.target) for example in split.examples]).intervals()
