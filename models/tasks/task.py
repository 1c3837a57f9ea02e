"""The contract between a task and the pipeline that serves it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from models.checkpoint import Checkpoint
from models.encoded import Encoded
from models.features import Extracted
from models.options import Options
from models.sequence import Padded
from models.tasks.streaming import Event


class Contribution(BaseModel):
    """How much of the fused vector a modality made up, and how new what was posted of it is to the network."""

    contribution: float = Field(ge=0, le=1)
    novelty: float | None = Field(
        None, ge=0, description="Distance from the training media; 2 % of held-back media of their kind are above 1"
    )


class Result(BaseModel):
    """What every answer has; a task adds its own fields."""

    modalities: dict[str, Contribution]
    notices: dict[str, list[str]] | None = Field(None, description="What was noticed about the media, such as silence")


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked about one bundle; ``told``: a search also yields its words as events."""

    features: Extracted
    options: Any
    explain: bool = False
    told: bool = False


class Task(ABC):
    """Runs one checkpoint's network on bundles: row ``i`` of the inputs is what ``queries[i]`` asks about.

    ``result`` and ``example`` are the answer's schema and what one may look like; ``explains`` says whether
    ``explain`` adds anything, and ``draws`` whether ``overlay`` can show it.
    """

    result: type[Result]
    example: dict[str, Any]
    options: type[Options] = Options
    explains: bool = False
    draws: bool = False
    languages: tuple[str, ...] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.network = checkpoint.network

    @abstractmethod
    def predict(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> Sequence[Result]:
        """The answer to each query."""

    def stream(self, inputs: Mapping[str, Padded], query: Query) -> Iterator[Event]:
        """Parts of the answer to a single one as they become certain, then ``{"result": whole answer}``."""
        (result,) = self.predict(inputs, [query])
        yield {"result": result.model_dump(exclude_none=True)}

    def overlay(self, pictures: list[NDArray[np.uint8]], result: Any) -> bytes:  # noqa: ARG002
        """A PNG that shows over the pictures what an explained ``result`` looked at.

        Raises:
            ValueError: this task attends to no picture.
        """
        raise ValueError(f"a {self.checkpoint.config.task} checkpoint draws no attention overlay")

    def contributions(self, encoded: Encoded) -> list[dict[str, Contribution]]:
        """Each row's contributions by modality; absent ones are left out."""
        names, shares = self.network.modalities, encoded.fusion.contributions.tolist()
        novelty = self.novelty(encoded)
        return [
            {
                name: Contribution(
                    contribution=round(share, 4), novelty=novelty[name][row] if name in novelty else None
                )
                for name, share in zip(names, given, strict=True)
                if share > 0
            }
            for row, given in enumerate(shares)
        ]

    def novelty(self, encoded: Encoded) -> dict[str, list[float]]:
        """How new each row's media are, by modality, of those whose training data the checkpoint knows."""
        known = {name: each for name, each in self.checkpoint.novelty.items() if name in encoded.outputs}
        found = {name: each(encoded.outputs[name].pooled).tolist() for name, each in known.items()}
        return {name: [round(value, 4) for value in rows] for name, rows in found.items()}

    def example_of(self, answer: dict[str, Any]) -> dict[str, Any]:
        """``answer`` with every modality's contribution: an example for the documentation."""
        share = round(1 / len(self.network.modalities), 4)
        modalities = {
            name: {"contribution": share} | ({"novelty": 0.4} if name in self.checkpoint.novelty else {})
            for name in self.network.modalities
        }
        return answer | {"modalities": modalities}
