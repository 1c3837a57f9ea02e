"""What all encoders that end in a recurrent network share: its options, and the way through it."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.cells import CellName, Nonlinearity
from models.pooling import Pooling, PoolingName
from models.registry import EncoderConfig
from models.rnn import LayerNorm, RecurrentEncoder
from models.sequence import SequenceOutput, full_lengths
from models.state import State


class RecurrentConfig(EncoderConfig):
    """Options of a ``RecurrentEncoder``, the same for every modality."""

    cell: CellName = "gru"
    nonlinearity: Nonlinearity = Field("tanh", description="Of the 'elman' cell; the others have none to choose")
    hidden: int = Field(128, ge=1, le=4096, description="Units of a layer and direction")
    layers: int = Field(1, ge=1, le=16)
    bidirectional: bool = Field(False, description="Also from the end to the start; such an encoder cannot stream")
    dropout: float = Field(0.0, ge=0, lt=1, description="Of inputs and outputs, the same at every step")
    weight_dropout: float = Field(0.0, ge=0, lt=1, description="Of recurrent weights")
    layer_norm: LayerNorm = Field("none", description="Of each layer's output, or slower, inside the cell")
    pooling: PoolingName = Field("mean", description="How the sequence becomes one vector")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.nonlinearity != "tanh" and self.cell != "elman":
            raise ValueError(f"only the cell 'elman' has a nonlinearity to choose, not '{self.cell}'")
        if self.weight_dropout and self.layer_norm == "cell":
            raise ValueError("weight_dropout needs the fast kernels, which layer_norm 'cell' cannot use")
        return self

    def build(self, input_size: int) -> RecurrentEncoder:
        """The recurrent network that these options describe."""
        return RecurrentEncoder(
            input_size,
            self.hidden,
            cell=self.cell,
            nonlinearity=self.nonlinearity,
            layers=self.layers,
            bidirectional=self.bidirectional,
            dropout=self.dropout,
            weight_dropout=self.weight_dropout,
            layer_norm=self.layer_norm,
            pooling=self.pooling,
        )


class StepwiseEncoder(nn.Module, ABC):
    """A front end that looks at each step by itself, and a recurrent network over what it sees."""

    def __init__(self, rnn: RecurrentEncoder) -> None:
        super().__init__()
        self.rnn = rnn
        self.output_size = rnn.output_size

    @property
    def causal(self) -> bool:
        """Whether no output depends on later steps, so that ``step`` can be used."""
        return self.rnn.causal

    @property
    def pooling(self) -> Pooling:
        """How its sequence becomes one vector."""
        return self.rnn.pooling

    @abstractmethod
    def front(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors [B, T, X] for the recurrent network; what padded steps get does not matter."""

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The state of ``rows`` rows before their first step."""
        return self.rnn.initial_state(rows, device)

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode the first ``lengths[b]`` (>= 0) steps of each row, going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to a bidirectional encoder.
        """
        output: SequenceOutput = self.rnn(self.front(x, lengths), lengths, state)
        return output

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, ...], all steps real -> (outputs [B, t, H], state); equal to ``forward`` in one go."""
        return self.rnn.step(self.front(x, full_lengths(x)), state)
