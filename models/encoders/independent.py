"""What the encoders without a recurrent network share: each step by itself, and the mean of what is seen."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from models.pooling import Pooling
from models.sequence import SequenceOutput, full_lengths, length_mask
from models.state import State


class IndependentEncoder(nn.Module, ABC):
    """Steps are independent of each other, so there is nothing to remember but their mean."""

    causal = True

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = output_size
        self.pooling = Pooling("mean", output_size)

    @abstractmethod
    def front(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors [B, T, output_size]; what padded steps get does not matter as long as it is finite."""

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:  # noqa: ARG002
        """Nothing: no step depends on an earlier one."""
        return {}

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:  # noqa: ARG002
        """Encode the first ``lengths[b]`` (>= 0) steps of each row; ``state`` is not needed."""
        padding = ~length_mask(lengths, x.shape[1]).unsqueeze(2)
        sequence = self.front(x, lengths).masked_fill(padding, 0)
        return SequenceOutput(sequence, lengths, self.pooling(sequence, lengths))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, ...], all steps real -> (outputs [B, t, D], the same state)."""
        return self.front(x, full_lengths(x)), state
