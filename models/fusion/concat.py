"""Feature-level fusion by concatenation, the baseline of multimodal learning (Baltrusaitis et al. 2019, sec. 6.1)."""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.pooled import PooledFusion
from models.fusion.presence import require_some, shares
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
        require_some(present)
        products = []
        for column, name in enumerate(self.modalities):
            here = present[:, column : column + 1]
            products.append(self.project[name](torch.where(here, inputs[name].pooled, self.absent[name])))
        stacked = torch.stack(products, 1)
        return FusionOutput(stacked.sum(1) + self.bias, shares(stacked.norm(dim=2), present))
