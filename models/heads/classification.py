"""Classification head: y = W_yh h + b_y over the fused vector; the softmax is the caller's."""

from typing import Literal, Self

from pydantic import Field
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.registry import HEADS, ComponentConfig


class ClassificationConfig(ComponentConfig):
    """Sizes of a ``classification`` head."""

    type: Literal["classification"] = "classification"
    classes: int = Field(ge=2, le=100_000)
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(classes=3)


@HEADS.register("classification", ClassificationConfig)
class ClassificationHead(nn.Module):
    """Logits [B, classes] of an encoded batch."""

    def __init__(self, config: ClassificationConfig, sizes: Sizes) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(sizes.fused, config.classes)

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits [B, classes]."""
        logits: Tensor = self.output(self.dropout(encoded.fusion.fused))
        return logits
