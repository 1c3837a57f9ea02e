"""Regression head: one or several numbers in the data's own unit."""

from typing import Literal, Self

from pydantic import Field
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.heads.numbers import NumbersHead
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
class RegressionHead(NumbersHead):
    """y = mean + std * (W h + b): see ``NumbersHead``."""

    causal = True

    def __init__(self, config: RegressionConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(fused_size(config.per, sizes), config.outputs)
        self.hold_unit(config.outputs)

    def forward(self, encoded: Encoded) -> Tensor:
        """Numbers [B, outputs], or [B, T, outputs] for each step of the fused sequence, real or padding."""
        vectors = fused(self.config.per, encoded)
        return self.in_unit(self.output(self.dropout(vectors) if self.training else vectors))
