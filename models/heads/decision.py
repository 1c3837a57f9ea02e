"""Decision head: hands on what a fusion of decisions has already decided."""

from typing import Literal, Self

from pydantic import Field
from torch import Tensor

from models.encoded import Encoded, Sizes
from models.heads.numbers import NumbersHead
from models.registry import HEADS, ComponentConfig


class DecisionConfig(ComponentConfig):
    """What a ``decision`` head expects of its fusion, whose ``outputs`` it must equal."""

    type: Literal["decision"] = "decision"
    outputs: int = Field(ge=1, le=100_000, description="Classes, or numbers")
    kind: Literal["classification", "regression"] = "classification"

    @classmethod
    def tiny(cls) -> Self:
        return cls(outputs=3)

    @classmethod
    def variants(cls) -> list[Self]:
        """One tiny instance a kind."""
        return [cls(outputs=3), cls(outputs=1, kind="regression")]


@HEADS.register("decision", DecisionConfig)
class DecisionHead(NumbersHead):
    """The fused vector itself: the heads are in the fusion, one a modality, and their votes are combined there.

    A regression's votes are numbers of unit scale, and so is what they come to; it is answered in the data's unit.
    """

    causal = True

    def __init__(self, config: DecisionConfig, sizes: Sizes) -> None:
        super().__init__()
        if config.outputs != sizes.fused:
            raise ValueError(
                f"a decision head of {config.outputs} outputs needs a fusion of as many, such as 'decision', "
                f"but its fusion gives {sizes.fused}"
            )
        self.config = config
        if config.kind == "regression":
            self.hold_unit(config.outputs)

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits (or log-probabilities) [B, outputs] of classes, or numbers [B, outputs]."""
        fused = encoded.fusion.fused
        return self.in_unit(fused) if self.config.kind == "regression" else fused
