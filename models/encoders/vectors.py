"""Encoders of ready feature vectors: a recurrent network, and the mean as the baseline without one."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoders.independent import IndependentEncoder
from models.encoders.recurrent import RecurrentConfig, StepwiseEncoder
from models.registry import ENCODERS, EncoderConfig


class _Vectors(EncoderConfig):
    """What both encoders begin with."""

    size: int = Field(ge=1, le=65_536, description="Numbers in a vector")
    normalize: bool = Field(True, description="Layer normalization of each vector: extractors differ in scale")

    reads: ClassVar[tuple[str, ...]] = ("vectors",)

    def check(self, features: Any) -> None:
        if features.size != self.size:
            raise ValueError(f"the encoder reads vectors of {self.size} numbers, and the features have {features.size}")

    @model_validator(mode="after")
    def _can_normalize(self) -> Self:
        if self.normalize and self.size == 1:
            raise ValueError("a vector of one number has no scale of its own: set normalize to false")
        return self


class VectorsRNNConfig(_Vectors, RecurrentConfig):
    """Sizes of a ``vectors-rnn`` encoder."""

    type: Literal["vectors-rnn"] = "vectors-rnn"

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=4, hidden=8)

    @classmethod
    def variants(cls) -> list[Self]:
        return [
            cls.tiny(),
            cls(size=4, hidden=8, normalize=False, cell="elman", nonlinearity="relu"),
            cls(size=4, hidden=8, cell="lstm", layers=2, bidirectional=True, pooling="last"),
            cls(size=4, hidden=8, layer_norm="output", pooling="attention"),
            cls(size=4, hidden=8, cell="lstm", layer_norm="cell"),
        ]


@ENCODERS.register("vectors-rnn", VectorsRNNConfig)
class VectorsRNN(StepwiseEncoder):
    """Vectors [B, T, size] -> recurrent network."""

    def __init__(self, config: VectorsRNNConfig) -> None:
        super().__init__(config.build(config.size))
        self.norm = nn.LayerNorm(config.size) if config.normalize else None

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        return x if self.norm is None else self.norm(x)


class VectorsMeanConfig(_Vectors):
    """Sizes of a ``vectors-mean`` encoder."""

    type: Literal["vectors-mean"] = "vectors-mean"
    width: int = Field(128, ge=1, le=4096, description="Size of a step's vector after the linear layer")
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=4, width=8)


@ENCODERS.register("vectors-mean", VectorsMeanConfig)
class VectorsMean(IndependentEncoder):
    """Vectors [B, T, size] -> a linear layer, and the mean over the steps."""

    def __init__(self, config: VectorsMeanConfig) -> None:
        super().__init__(config.width)
        self.norm = nn.LayerNorm(config.size) if config.normalize else None
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(config.size, config.width)

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:  # noqa: ARG002
        vectors: Tensor = self.project(self.dropout(x if self.norm is None else self.norm(x)))
        return vectors
