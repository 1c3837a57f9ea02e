"""Transcription head: connectionist temporal classification (CTC; Graves et al. 2006).

Each step of the sequence writes one token of the vocabulary or the blank. A transcription is what is left of a path of
steps when repetitions are merged and blanks removed; ``models.decoding.ctc`` finds the most probable one.
"""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.heads.reading import CommonMemory
from models.registry import HEADS, ComponentConfig
from models.sequence import SequenceOutput

# Not infinite: the gradient of the CTC loss would be NaN.
_FORBIDDEN = -1e4


class TranscriptionConfig(ComponentConfig):
    """Sizes of a ``transcription`` head; ``grammar`` is what its sentences are known to look like, if they are."""

    type: Literal["transcription"] = "transcription"
    vocabulary: int = Field(ge=2, le=200_000, description="Tokens of the tokenizer")
    blank: int = Field(0, ge=0, description="Token that stands for the blank: the tokenizer's <pad>, never written")
    grammar: tuple[tuple[str, ...], ...] = Field(
        (), max_length=256, description="The words that each place of a sentence may hold; empty if any word may follow"
    )
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(vocabulary=6)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.blank >= self.vocabulary:
            raise ValueError(f"blank {self.blank} must be below the vocabulary's {self.vocabulary} tokens")
        if not all(self.grammar):
            raise ValueError("every place of the grammar needs at least one word")
        return self


@HEADS.register("transcription", TranscriptionConfig)
class TranscriptionHead(nn.Module):
    """Log-probabilities of tokens at each fused step, or each step of the memory where the fusion gives no sequence."""

    spoken: Tensor

    def __init__(self, config: TranscriptionConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        # Without fused steps it reads the encoders' own.
        self.memory = CommonMemory(sizes.modalities, sizes.fused) if sizes.sequence is None else None
        size = sizes.sequence if self.memory is None else self.memory.output_size
        assert size is not None
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(size, config.vocabulary)
        # Which tokens are ever written, [V] of 0 and 1: it belongs to the weights, as the vocabulary does.
        self.register_buffer("spoken", torch.ones(config.vocabulary, dtype=torch.uint8))
        # One modality is read after the other, so the first would have to end before the second begins.
        self.causal = self.memory is None or len(sizes.modalities) == 1

    def steps(self, encoded: Encoded) -> SequenceOutput:
        """The sequence that is transcribed, with its lengths in steps."""
        found: SequenceOutput | None = encoded.fusion.sequence if self.memory is None else self.memory(encoded)
        assert found is not None
        return found

    def forward(self, encoded: Encoded) -> Tensor:
        """Natural log-probabilities [B, T, V]; those after a row's length (``steps``) mean nothing."""
        return self.score(self.steps(encoded).sequence)

    def score(self, sequence: Tensor) -> Tensor:
        """Natural log-probabilities [..., V] of steps [..., D]: steps are independent, so chunks may be scored."""
        writes = self.spoken.bool()
        writes[self.config.blank] = True
        scores: Tensor = self.output(self.dropout(sequence))
        return scores.masked_fill(~writes, _FORBIDDEN).log_softmax(-1)
