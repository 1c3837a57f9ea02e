"""Language-model head: the next token after each step of a causal text encoder (Mikolov et al. 2010)."""

from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.registry import HEADS, ComponentConfig


class LanguageModelConfig(ComponentConfig):
    """Sizes of a ``language-model`` head."""

    type: Literal["language-model"] = "language-model"
    vocabulary: int = Field(ge=4, le=200_000, description="Tokens of the tokenizer")
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(vocabulary=12)


@HEADS.register("language-model", LanguageModelConfig)
class LanguageModelHead(nn.Module):
    """Scores of the next token from the text encoder's output alone: a fused vector would have seen the future."""

    spoken: Tensor
    causal = True

    def __init__(self, config: LanguageModelConfig, sizes: Sizes) -> None:
        super().__init__()
        if set(sizes.modalities) != {"text"}:
            names = ", ".join(sizes.modalities)
            raise ValueError(f"a language-model head reads one encoder, that of the text, not {names}")
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(sizes.modalities["text"], config.vocabulary)
        # Which tokens may be written, [V] of 0 and 1: it belongs to the weights, as the vocabulary does.
        self.register_buffer("spoken", torch.ones(config.vocabulary, dtype=torch.uint8))

    def forward(self, encoded: Encoded) -> Tensor:
        """Logits [B, T, V] of the token that follows each step; those after a row's length mean nothing."""
        return self.score(encoded.outputs["text"].sequence)

    def score(self, sequence: Tensor) -> Tensor:
        """Logits [..., V] of the token that follows the encoder's outputs [..., D]: -inf for what is never written."""
        scores: Tensor = self.output(self.dropout(sequence))
        return scores.masked_fill(~self.spoken.bool(), float("-inf"))
