"""Text encoders: word embeddings into a recurrent network, and the mean of embeddings as the baseline without one."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.dropout import WordDropout
from models.encoders.independent import IndependentEncoder
from models.encoders.recurrent import RecurrentConfig, StepwiseEncoder
from models.registry import ENCODERS, EncoderConfig
from models.sequence import SequenceOutput, length_mask, masked_mean
from models.state import State


class _Words(EncoderConfig):
    """What both text encoders begin with."""

    vocabulary: int = Field(ge=4, le=200_000, description="Tokens of the checkpoint's tokenizer")
    embedding: int = Field(128, ge=1, le=4096, description="Size of a word's vector")
    word_dropout: float = Field(0.0, ge=0, lt=1, description="Share of words that are left out in training")

    reads: ClassVar[tuple[str, ...]] = ("tokens",)


class TextRNNConfig(_Words, RecurrentConfig):
    """Sizes of a ``text-rnn`` encoder."""

    type: Literal["text-rnn"] = "text-rnn"
    words: bool = Field(
        False,
        description="Each output carries its word's vector too, and the whole the mean of all: a bidirectional one",
    )

    @classmethod
    def tiny(cls) -> Self:
        return cls(vocabulary=12, embedding=6, hidden=8)

    @classmethod
    def variants(cls) -> list[Self]:
        both_ways = cls(vocabulary=12, embedding=6, hidden=8, bidirectional=True, pooling="attention")
        return [cls.tiny(), both_ways, both_ways.model_copy(update={"words": True})]

    @model_validator(mode="after")
    def _has_all_words(self) -> Self:
        if self.words and not self.bidirectional:
            raise ValueError("words belongs to a bidirectional encoder, which has the whole text before it")
        return self


@ENCODERS.register("text-rnn", TextRNNConfig)
class TextRNN(StepwiseEncoder):
    """Token ids [B, T] -> embeddings -> recurrent network, with its outputs, or those beside the embeddings.

    The latter are the words' context and the words themselves (Lai et al. 2015): what a bag of words sees is not lost.
    """

    def __init__(self, config: TextRNNConfig) -> None:
        super().__init__(config.build(config.embedding))
        self.embedding = _embedding(config)
        self.word_dropout = WordDropout(config.word_dropout)
        self.words = config.words
        self.output_size += config.embedding if self.words else 0

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode the first ``lengths[b]`` (>= 0) tokens of each row, going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to a bidirectional encoder.
        """
        if not self.words:
            return super().forward(x, lengths, state)
        words = self.front(x, lengths)
        output: SequenceOutput = self.rnn(words, lengths, state)
        words = words.masked_fill(~length_mask(lengths, x.shape[1]).unsqueeze(2), 0)
        sequence = torch.cat([output.sequence, words], 2)
        return SequenceOutput(sequence, lengths, torch.cat([output.pooled, masked_mean(words, lengths)], 1))

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        words: Tensor = self.word_dropout(self.embedding(x))
        return words


class TextBagConfig(_Words):
    """Sizes of a ``text-bag`` encoder."""

    type: Literal["text-bag"] = "text-bag"

    @classmethod
    def tiny(cls) -> Self:
        return cls(vocabulary=12, embedding=8)


@ENCODERS.register("text-bag", TextBagConfig)
class TextBag(IndependentEncoder):
    """Token ids [B, T] -> their embeddings, and the mean of those: word order is not seen (Iyyer et al. 2015)."""

    def __init__(self, config: TextBagConfig) -> None:
        super().__init__(config.embedding)
        self.embedding = _embedding(config)
        self.word_dropout = WordDropout(config.word_dropout)

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        words: Tensor = self.word_dropout(self.embedding(x))
        return words


def _embedding(config: _Words) -> nn.Embedding:
    # Of unit length on average: with torch's unit variance a cell's gates would begin saturated.
    embedding = nn.Embedding(config.vocabulary, config.embedding)
    nn.init.normal_(embedding.weight, std=config.embedding**-0.5)
    return embedding
