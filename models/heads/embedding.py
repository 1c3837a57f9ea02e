"""Embedding head: every modality as a unit vector of one joint space (Frome et al. 2013; Kiros et al. 2014)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.registry import HEADS, ComponentConfig

FUSED = "fused"
_MOST_SCALE = 100.0


class EmbeddingConfig(ComponentConfig):
    """Sizes of an ``embedding`` head."""

    type: Literal["embedding"] = "embedding"
    size: int = Field(512, ge=2, le=8192, description="Size of the joint space")
    fused: bool = Field(False, description="Embed the fused vector too: the bundle as a whole")
    temperature: float = Field(0.07, ge=0.01, le=1, description="Where the learned temperature starts")
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=4, fused=True)

    @classmethod
    def variants(cls) -> list[Self]:
        """With the fused vector and without."""
        return [cls(size=4, fused=True), cls(size=4)]


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit ``vectors`` [B, size] by modality (and ``fused``), of which only ``present`` bool [B] rows mean anything.

    ``scale`` is the learned 1 / temperature by which a contrastive loss multiplies their cosines.
    """

    vectors: Mapping[str, Tensor]
    present: Mapping[str, Tensor]
    scale: Tensor


@HEADS.register("embedding", EmbeddingConfig)
class EmbeddingHead(nn.Module):
    """One projection a modality, then normalization: the product of two vectors is their cosine."""

    def __init__(self, config: EmbeddingConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        inputs = dict(sizes.modalities) | ({FUSED: sizes.fused} if config.fused else {})
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.ModuleDict({name: nn.Linear(width, config.size) for name, width in inputs.items()})
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    @property
    def scale(self) -> Tensor:
        """1 / temperature, at most 100 as in CLIP (Radford et al. 2021), beyond which training gets unstable."""
        # The excess is taken off without a gradient of its own, so that a bounded scale can still come down.
        excess = (self.log_scale - math.log(_MOST_SCALE)).clamp(min=0).detach()
        return (self.log_scale - excess).exp()

    def forward(self, encoded: Encoded) -> Embeddings:
        """The vectors of every modality in ``encoded``; a single row's absence shows in ``present``."""
        vectors = {name: self._embed(name, output.pooled) for name, output in encoded.outputs.items()}
        present = {name: output.lengths > 0 for name, output in encoded.outputs.items()}
        if self.config.fused:
            vectors[FUSED] = self._embed(FUSED, encoded.fusion.fused)
            present[FUSED] = torch.ones(len(encoded.fusion.fused), dtype=torch.bool, device=vectors[FUSED].device)
        return Embeddings(vectors, present, self.scale)

    def _embed(self, name: str, values: Tensor) -> Tensor:
        return F.normalize(self.project[name](self.dropout(values)), dim=-1)
