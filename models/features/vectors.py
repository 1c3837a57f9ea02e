"""Vectors that somebody has extracted already, as research data sets come."""

from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from models.features.features import FEATURES, Features, Modality, Sources, as_bytes
from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.media.vectors import decode_vectors, most_bytes


class VectorFeatures(Features):
    """A sequence of vectors, posted as a ``.npy`` file in the part of the modality that it was extracted from."""

    type: Literal["vectors"] = "vectors"
    size: int = Field(ge=1, le=65_536, description="Numbers in a vector")
    max_steps: int = Field(1024, ge=1, le=100_000, description="Most vectors in a sequence")

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=4)

    def most_bytes(self, modality: Modality, limits: MediaLimits) -> int:  # noqa: ARG002
        """As many as the longest sequence has in double precision, with its header."""
        return most_bytes(self.size, self.max_steps)

    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[NDArray[np.float32]]:  # noqa: ARG002
        """The posted sequences, each [T, size]; ``size`` and ``max_steps`` are their limits."""
        posted = sources.get(modality, [])[:room]
        return [decode_vectors(as_bytes(data), modality, size=self.size, most=self.max_steps) for data in posted]

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:  # noqa: ARG002
        """Sequences -> float32 [T, size], one after the other."""
        return torch.from_numpy(np.concatenate(media))

    def blank(self) -> list[NDArray[np.float32]]:
        """One vector of zeros."""
        return [np.zeros((1, self.size), np.float32)]


FEATURES.register("vectors", VectorFeatures)(VectorFeatures)
