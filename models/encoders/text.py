"""Text encoders: word embeddings into a recurrent network, and the mean of embeddings as the baseline without one."""

from typing import ClassVar, Literal, Self

from pydantic import Field
from torch import Tensor, nn

from models.dropout import WordDropout
from models.encoders.independent import IndependentEncoder
from models.encoders.recurrent import RecurrentConfig, StepwiseEncoder
from models.registry import ENCODERS, EncoderConfig


class _Words(EncoderConfig):
    """What both text encoders begin with."""

    vocabulary: int = Field(ge=4, le=200_000, description="Tokens of the checkpoint's tokenizer")
    embedding: int = Field(128, ge=1, le=4096, description="Size of a word's vector")
    word_dropout: float = Field(0.0, ge=0, lt=1, description="Share of words that are left out in training")

    reads: ClassVar[tuple[str, ...]] = ("tokens",)


class TextRNNConfig(_Words, RecurrentConfig):
    """Sizes of a ``text-rnn`` encoder."""

    type: Literal["text-rnn"] = "text-rnn"

    @classmethod
    def tiny(cls) -> Self:
        return cls(vocabulary=12, embedding=6, hidden=8)

    @classmethod
    def variants(cls) -> list[Self]:
        return [cls.tiny(), cls(vocabulary=12, embedding=6, hidden=8, bidirectional=True, pooling="attention")]


@ENCODERS.register("text-rnn", TextRNNConfig)
class TextRNN(StepwiseEncoder):
    """Token ids [B, T] -> embeddings -> recurrent network."""

    def __init__(self, config: TextRNNConfig) -> None:
        super().__init__(config.build(config.embedding))
        self.embedding = _embedding(config)
        self.word_dropout = WordDropout(config.word_dropout)

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
