"""Regression head: one or several numbers in the data's own unit."""

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.heads.reading import Per, fused, fused_size
from models.registry import HEADS, ComponentConfig


class RegressionConfig(ComponentConfig):
    """Sizes of a ``regression`` head."""

    type: Literal["regression"] = "regression"
    outputs: int = Field(1, ge=1, le=10_000, description="How many numbers are predicted")
    per: Per = Field("bundle", description="'step' predicts for each fused step, such as an utterance of a talk")
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(outputs=2)

    @classmethod
    def variants(cls) -> list[Self]:
        """One tiny instance a mode."""
        return [cls(outputs=2), cls(outputs=2, per="step")]


@HEADS.register("regression", RegressionConfig)
class RegressionHead(nn.Module):
    """y = mean + std * (W h + b); ``mean`` and ``std`` [outputs] are the training targets', and belong to the weights.

    So the linear layer works on targets of unit scale, whatever the data's unit, and the answer is in that unit.
    """

    mean: Tensor
    std: Tensor
    causal = True

    def __init__(self, config: RegressionConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(fused_size(config.per, sizes), config.outputs)
        self.register_buffer("mean", torch.zeros(config.outputs))
        self.register_buffer("std", torch.ones(config.outputs))

    @torch.no_grad()
    def fit(self, targets: Tensor) -> None:
        """Take ``mean`` and ``std`` from the training ``targets`` [N, outputs], N >= 1; a constant keeps std 1.

        Raises:
            ValueError: the targets' number of columns is not the head's, or one of them is not finite.
        """
        if targets.ndim != 2 or targets.shape[1] != self.config.outputs or not len(targets):
            raise ValueError(f"targets have shape {tuple(targets.shape)}: give [N, {self.config.outputs}], N >= 1")
        if not bool(targets.isfinite().all()):
            raise ValueError("a target is NaN or infinite: leave its example out")
        std = targets.std(0, unbiased=False)
        self.mean.copy_(targets.mean(0))
        self.std.copy_(torch.where(std > 0, std, torch.ones_like(std)))

    def forward(self, encoded: Encoded) -> Tensor:
        """Numbers [B, outputs], or [B, T, outputs] for each step of the fused sequence, real or padding."""
        standard: Tensor = self.output(self.dropout(fused(self.config.per, encoded)))
        return self.mean + self.std * standard
