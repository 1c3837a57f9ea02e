"""Tensor fusion: all products of the modalities' features up to the number of modalities.

In full: TFN, Zadeh et al. 2017, "Tensor Fusion Network for Multimodal Sentiment Analysis", sec. 4.2. Or with weights of
low rank, which are never multiplied out: LMF, Liu et al. 2018, "Efficient Low-rank Multimodal Fusion with
Modality-Specific Factors", sec. 3.2.
"""

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from models.fusion.pooled import PooledFusion
from models.fusion.presence import complete, drop_one
from models.registry import FUSIONS, FusionConfig
from models.sequence import FusionOutput, SequenceOutput

MOST_ENTRIES = 2**17
"""The largest outer product that a ``full`` tensor fusion may make."""


class TensorConfig(FusionConfig):
    """Sizes of a ``tensor`` fusion."""

    type: Literal["tensor"] = "tensor"
    mode: Literal["full", "low-rank"] = "low-rank"
    size: int = Field(16, ge=1, le=1024, description="Size of each modality's factor of the product")
    rank: int = Field(4, ge=1, le=256, description="Rank of the weights in the mode 'low-rank'")
    width: int = Field(128, ge=1, le=4096, description="Size of the fused vector")
    dropout: float = Field(0.0, ge=0, lt=1, description="On the encoders' vectors")

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=3, rank=2, width=8)

    @classmethod
    def variants(cls) -> list[Self]:
        return [cls(mode="full", size=3, width=8), cls(mode="low-rank", size=3, rank=2, width=8)]


@FUSIONS.register("tensor", TensorConfig)
class TensorFusion(PooledFusion):
    """fused = W . ([1; z_1] x ... x [1; z_M]) + b, with z_m = tanh(U_m x_m + c_m) and x the outer product.

    ``low-rank`` writes W as a sum of ``rank`` outer products of one factor a modality, so that
    fused = sum_r prod_m (F_m,r [1; z_m]) + b costs a sum of the modalities' sizes instead of their product.

    An absent modality's z is 0: of its factor [1; z] the constant 1 is left, and with it exactly those products in
    which the modality does not occur. A modality's contribution is how far ``fused`` moves when it is left out so, as
    a share of all present ones.
    """

    def __init__(self, config: TensorConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = sorted(sizes)
        self.output_size = config.width
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.ModuleDict({name: nn.Linear(sizes[name], config.size) for name in self.modalities})
        self.product = (
            FullProduct(len(self.modalities), config.size, config.width)
            if config.mode == "full"
            else LowRankProduct(len(self.modalities), config.size, config.width, config.rank)
        )

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' pooled vectors where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        vectors = [inputs[name].pooled for name in self.modalities]
        whole = complete(present)
        if not whole:
            vectors = [vector.masked_fill(~present[:, column : column + 1], 0) for column, vector in enumerate(vectors)]
        if self.training:
            vectors = [self.dropout(vector) for vector in vectors]
        layers: list[Any] = list(self.project.values())
        factors = torch.stack(
            [F.linear(x, layer.weight, layer.bias) for layer, x in zip(layers, vectors, strict=True)], 1
        ).tanh()
        if not whole:
            factors = factors * present.unsqueeze(2)
        fused = self.product(factors)
        return FusionOutput(fused, lambda: drop_one(lambda some: self.product(factors * some.unsqueeze(2)), present))


class FullProduct(nn.Module):
    """A linear layer over the outer product of [1; z_m], made in full."""

    def __init__(self, factors: int, size: int, width: int) -> None:
        super().__init__()
        entries = (size + 1) ** factors
        if entries > MOST_ENTRIES:
            # Rounded up by a hair, for a root that is a whole number may come out just below it.
            largest = int(MOST_ENTRIES ** (1 / factors) + 1e-9) - 1
            raise ValueError(
                f"the outer product of {factors} modalities of size {size} has {entries} entries, more than the "
                f"{MOST_ENTRIES} allowed: make size at most {largest}, or the mode 'low-rank'"
            )
        self.output = nn.Linear(entries, width)

    def forward(self, z: Tensor) -> Tensor:
        """Factors ``z`` [B, M, size] -> [B, width]."""
        fused: Tensor = self.output(outer(z))
        return fused


class LowRankProduct(nn.Module):
    """The same layer with a weight of rank ``rank``, never multiplied out."""

    def __init__(self, factors: int, size: int, width: int, rank: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.empty(factors, rank, size + 1, width))
        self.bias = nn.Parameter(torch.zeros(width))
        # The sum over ranks of the products of all factors then varies about as much as one product with W would.
        nn.init.normal_(self.factors, std=(size + 1) ** -0.5 * rank ** (-0.5 / factors))

    def forward(self, z: Tensor) -> Tensor:
        """Factors ``z`` [B, M, size] -> [B, width]."""
        first, *others = torch.matmul(one_and(z).transpose(0, 1).unsqueeze(1), self.factors).unbind(0)
        for other in others:
            first = first * other
        return first.sum(0) + self.bias


def one_and(z: Tensor) -> Tensor:
    """[1; z] for ``z`` [..., size]."""
    return torch.cat([torch.ones_like(z[..., :1]), z], -1)


def outer(z: Tensor) -> Tensor:
    """The outer product of [1; z_1] ... [1; z_M] for ``z`` [B, M, size] -> [B, (size + 1) ** M], row-major."""
    first, *others = one_and(z).unbind(1)
    for other in others:
        first = (first.unsqueeze(2) * other.unsqueeze(1)).flatten(1)
    return first
