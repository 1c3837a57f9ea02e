"""Feature-level fusion by concatenation, the baseline of multimodal learning (Baltrusaitis et al. 2019, sec. 6.1)."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.fusion.pooled import PooledFusion
from models.fusion.presence import complete, shares
from models.registry import FUSIONS, FusionConfig
from models.sequence import FusionOutput, SequenceOutput


class ConcatConfig(FusionConfig):
    """Sizes of a ``concat`` fusion."""

    type: Literal["concat"] = "concat"
    width: int = Field(512, ge=1, le=8192, description="Size of the fused vector")

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=8)


@FUSIONS.register("concat", ConcatConfig)
class ConcatFusion(PooledFusion):
    """fused = W [x_1; ...; x_M] + b, where an absent modality's vector is a learned one of its own.

    A linear layer over a concatenation is a sum of one product a modality; a modality's contribution is the norm of
    its product, as a share of all present ones.
    """

    def __init__(self, config: ConcatConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = sorted(sizes)
        self.output_size = config.width
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(sizes[name])) for name in self.modalities})
        self.project = nn.ModuleDict(
            {name: nn.Linear(sizes[name], config.width, bias=False) for name in self.modalities}
        )
        self.bias = nn.Parameter(torch.zeros(config.width))

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' outputs where ``present`` bool [B, M], in the modalities' alphabetical order, is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        vectors = [inputs[name].pooled for name in self.modalities]
        if not complete(present):
            vectors = [
                torch.where(present[:, column : column + 1], vectors[column], self.absent[name])
                for column, name in enumerate(self.modalities)
            ]
        layers: list[Any] = list(self.project.values())
        weights: list[Tensor] = [layer.weight for layer in layers]
        fused = F.linear(vectors[0], weights[0], self.bias)
        for vector, weight in zip(vectors[1:], weights[1:], strict=True):
            fused = torch.addmm(fused, vector, weight.t())

        def measure() -> Tensor:
            products = [F.linear(vector, weight) for vector, weight in zip(vectors, weights, strict=True)]
            return shares(torch.stack(products, 1).norm(dim=2), present)

        return FusionOutput(fused, measure)
