"""Feature-level fusion by a weighted sum of equally wide vectors: fixed, learned or gated weights.

The gates are those of the gated multimodal unit (Arevalo et al. 2017, "Gated Multimodal Units for Information Fusion",
sec. 3.1, the form for k modalities).
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.fusion.pooled import PooledFusion
from models.fusion.presence import complete, shares
from models.registry import FUSIONS, FusionConfig
from models.sequence import FusionOutput, SequenceOutput

# In this range half precision, in which checkpoints are stored, keeps them.
Weight = Annotated[float, Field(ge=1e-3, le=1e3)]


class WeightedSumConfig(FusionConfig):
    """Sizes of a ``weighted-sum`` fusion."""

    type: Literal["weighted-sum"] = "weighted-sum"
    mode: Literal["fixed", "learned", "gated"] = "gated"
    width: int = Field(256, ge=1, le=8192, description="Size of the fused vector")
    weights: dict[str, Weight] | None = Field(
        None, max_length=16, description="Weight of each modality in the mode 'fixed'; all alike if left out"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="On the encoders' vectors")

    @model_validator(mode="after")
    def _weights_are_fixed(self) -> Self:
        if self.weights is not None and self.mode != "fixed":
            raise ValueError(f"weights are given in the mode 'fixed' only: in the mode '{self.mode}' they are learned")
        return self

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=8)

    @classmethod
    def variants(cls) -> list[Self]:
        return [cls(mode="fixed", width=8), cls(mode="learned", width=8), cls(mode="gated", width=8)]


@FUSIONS.register("weighted-sum", WeightedSumConfig)
class WeightedSumFusion(PooledFusion):
    """fused = sum over the present modalities of w_m * h_m, with h_m = tanh(W_m x_m).

    - ``fixed``: w_m as given, normalized over the present modalities.
    - ``learned``: w = softmax over the present modalities of one learned number each.
    - ``gated``: w_m = sigmoid(V_m [x_1; ...; x_M]), a gate for each unit, which every modality has a say in. What the
      other gates read of an absent modality is a learned vector; its own gate is shut.

    A modality's contribution is the norm of w_m * h_m, as a share of all present ones.
    """

    weights: Tensor

    def __init__(self, config: WeightedSumConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.mode = config.mode
        self.modalities = sorted(sizes)
        self.output_size = config.width
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.ModuleDict(
            {name: nn.Linear(sizes[name], config.width, bias=False) for name in self.modalities}
        )
        if config.mode == "fixed":
            given = config.weights or dict.fromkeys(self.modalities, 1.0)
            if sorted(given) != self.modalities:
                raise ValueError(f"weights name {', '.join(sorted(given))}, but there are {', '.join(self.modalities)}")
            self.register_buffer("weights", torch.tensor([given[name] for name in self.modalities]))
        elif config.mode == "learned":
            self.scores = nn.Parameter(torch.zeros(len(self.modalities)))
        else:
            self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(sizes[name])) for name in self.modalities})
            self.gates = nn.Linear(sum(sizes.values()), len(self.modalities) * config.width, bias=False)

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' pooled vectors where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        vectors = [inputs[name].pooled for name in self.modalities]
        gaps = None if complete(present) else ~present
        if gaps is not None:
            vectors = [vector.masked_fill(gaps[:, column : column + 1], 0) for column, vector in enumerate(vectors)]
        if self.training:
            vectors = [self.dropout(vector) for vector in vectors]
        layers: list[Any] = list(self.project.values())
        hidden = torch.stack([F.linear(x, layer.weight) for layer, x in zip(layers, vectors, strict=True)], 1)
        parts = self._weights(vectors, gaps) * torch.tanh(hidden)
        if gaps is not None:
            parts = parts.masked_fill(gaps.unsqueeze(2), 0)
        return FusionOutput(parts.sum(1), lambda: shares(parts.norm(dim=2), present))

    def _weights(self, vectors: list[Tensor], gaps: Tensor | None) -> Tensor:
        """The weights [B, M, 1] or [B, M, width]; those of absent modalities, the ``gaps`` [B, M], mean nothing."""
        if self.mode == "gated":
            if gaps is not None:
                vectors = [
                    torch.where(gaps[:, column : column + 1], self.absent[name], vectors[column])
                    for column, name in enumerate(self.modalities)
                ]
            return torch.sigmoid(self.gates(torch.cat(vectors, 1)).unflatten(1, (len(vectors), -1)))
        scores = self.weights.log() if self.mode == "fixed" else self.scores
        if gaps is None:
            return scores.softmax(0).unsqueeze(1)
        return scores.expand_as(gaps).masked_fill(gaps, float("-inf")).softmax(1).unsqueeze(2)
