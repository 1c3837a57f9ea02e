"""English sentences whose feeling people rated: tweets, and pieces of product reviews.

Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text": twenty
people or more gave each a number from -4 to 4, and the mean is kept. The files are in the source distribution of the
package vaderSentiment 3.3.2 (MIT), in ``additional_resources/hutto_ICWSM_2014.tar.gz``. Its reviews of films are not
read: SST-2 was made of the same ones, and they would give its held-back sentences away. Its editorials are no opinions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.media.limits import MediaLimits
from models.media.text import decode_text
from models.pipeline import Pipeline
from models.training.manifest import DataError
from models.training.metrics.classes import class_figures
from models.training.recipes.sentiment.served import positive

FILES = ("tweets_GroundTruth.txt", "amazonReviewSnippets_GroundTruth.txt")
CLEAR = 1.0
"""From which number on, on either side of 0, a sentence counts as clearly positive or negative."""
NEUTRAL = 0.25
"""Up to which number it counts as saying nothing."""
SURE = 0.9
_STEEP = 1.5
_HELD_BACK = 10
"""Of so many reviews and tweets one is held back, whole."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A sentence and what people made of it, -4 to 4."""

    text: str
    rating: float

    @property
    def positive(self) -> float:
        """How likely it is to be called positive: a half where it says nothing either way."""
        return min(max(1 / (1 + math.exp(-_STEEP * self.rating)), 0.03), 0.97)


def rated(folder: Path) -> tuple[list[Rated], list[Rated]]:
    """The sentences to learn from, and those that are held back.

    Raises:
        DataError: a file is missing, or a line is not a name, a number and a text.
    """
    learned: list[Rated] = []
    held: list[Rated] = []
    for name in FILES:
        for source, sentence in _lines(folder / name):
            (held if source % _HELD_BACK == 0 else learned).append(sentence)
    return learned, held


def rated_figures(checkpoint: Path, sentences: Sequence[Rated]) -> dict[str, Any]:
    """How a ``sentiment`` checkpoint, as it is served, answers to rated sentences.

    ``accuracy`` with its interval over the clear ones, and the share of neutral ones of which it is over 90 % sure.
    """
    pipeline = Pipeline.load(checkpoint)
    said = [positive(pipeline, sentence.text) for sentence in sentences]
    both = [(value, sentence.rating) for value, sentence in zip(said, sentences, strict=True)]
    clear = [(value, int(rating > 0)) for value, rating in both if abs(rating) >= CLEAR]
    neutral = [max(value, 1 - value) > SURE for value, rating in both if abs(rating) <= NEUTRAL]
    probabilities = np.array([[1 - value, value] for value, _ in clear])
    accuracy = class_figures(probabilities, np.array([positive for _, positive in clear])).intervals()["accuracy"]
    return {
        "n": len(clear),
        "accuracy": accuracy,
        "neutral": len(neutral),
        "sure_of_neutral": round(sum(neutral) / max(len(neutral), 1), 4),
    }


def _lines(path: Path) -> Iterator[tuple[int, Rated]]:
    """Each sentence with the number of what it is from."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: it is in the source distribution of vaderSentiment") from error
    for number, line in enumerate(lines, 1):
        try:
            name, rating, text = line.split("\t")
            yield int(name.partition("_")[0]), Rated(decode_text(text, MediaLimits(), markup=True), float(rating))
        except ValueError as error:
            raise DataError(f"{path}, line {number}, is not a name, a number and a text") from error
