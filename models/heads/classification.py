"""Classification head: y = W_yh h + b_y over the fused vector, or over each fused step; the softmax is the caller's."""

from typing import Literal, Self

from pydantic import Field
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.heads.reading import Per, fused, fused_size
from models.registry import HEADS, ComponentConfig


class ClassificationConfig(ComponentConfig):
    """Sizes of a ``classification`` head."""

    type: Literal["classification"] = "classification"
    classes: int = Field(ge=2, le=100_000)
    per: Per = Field("bundle", description="'step' gives a class to each fused step, such as an utterance of a talk")
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(classes=3)

    @classmethod
    def variants(cls) -> list[Self]:
        """One tiny instance a mode."""
        return [cls(classes=3), cls(classes=3, per="step")]


@HEADS.register("classification", ClassificationConfig)
class ClassificationHead(nn.Module):
    """Logits of an encoded batch."""

    causal = True

    def __init__(self, config: ClassificationConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(fused_size(config.per, sizes), config.classes)

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits [B, classes], or [B, T, classes] for each step of the fused sequence, real or padding."""
        vectors = fused(self.config.per, encoded)
        logits: Tensor = self.output(self.dropout(vectors) if self.training else vectors)
        return logits
