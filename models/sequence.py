"""The values that encoders and fusions hand on. All tensors are batch first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from models.state import State


@dataclass(frozen=True, slots=True)
class Padded:
    """Sequences of unequal length in one tensor.

    ``values`` is [B, T, ...]; ``lengths`` (int64 [B]) says how many leading steps of each row are real. A length of 0
    means that the row lacks this modality.
    """

    values: Tensor
    lengths: Tensor

    def to(self, device: torch.device) -> "Padded":
        """The same sequences on another device; to a CUDA device they go while the CPU does something else."""
        return Padded(_moved(self.values, device), _moved(self.lengths, device))

    def row(self, index: int) -> "Padded":
        """One of the sequences by itself, without padding."""
        here = slice(index, index + 1)
        return Padded(self.values[here, : int(self.lengths[index])], self.lengths[here])


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """What an encoder returns: ``sequence`` [B, T, D], ``lengths`` [B], ``pooled`` [B, D] and the state after it."""

    sequence: Tensor
    lengths: Tensor
    pooled: Tensor
    state: State = field(default_factory=dict)

    def row(self, index: int) -> "SequenceOutput":
        """One of the rows by itself, without padding."""
        here = slice(index, index + 1)
        state = {name: value[here] for name, value in self.state.items()}
        sequence = self.sequence[here, : int(self.lengths[index])]
        return SequenceOutput(sequence, self.lengths[here], self.pooled[here], state)


@dataclass(frozen=True)
class FusionOutput:
    """What a fusion returns: ``fused`` [B, F] and ``contributions`` [B, M], rows summing to 1, 0 where absent.

    Contributions explain a result and train nothing. ``measure`` works them out when they are first asked for, so that
    nobody else pays for them.

    A fusion that works step by step also returns the fused ``sequence``.
    One that lets each modality decide by itself returns the decisions: ``votes`` [B, M, F], of which only present
    ones mean anything.
    """

    fused: Tensor
    measure: Callable[[], Tensor] = field(repr=False)
    sequence: SequenceOutput | None = None
    votes: Tensor | None = None

    @cached_property
    def contributions(self) -> Tensor:
        """Each modality's share in ``fused``, without a gradient."""
        with torch.no_grad():
            return self.measure()

    def row(self, index: int) -> "FusionOutput":
        """One of the rows by itself."""
        here = slice(index, index + 1)
        return FusionOutput(
            self.fused[here],
            lambda: self.contributions[here],
            None if self.sequence is None else self.sequence.row(index),
            None if self.votes is None else self.votes[here],
        )


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Bool [B, size], true on the first ``lengths[b]`` steps of row b."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def full_lengths(values: Tensor) -> Tensor:
    """int64 [B]: every row of ``values`` [B, T, ...] has T steps."""
    return torch.full((values.shape[0],), values.shape[1], dtype=torch.int64, device=values.device)


def masked_mean(values: Tensor, lengths: Tensor) -> Tensor:
    """Mean over the real steps of ``values`` [B, T, D] -> [B, D]; zeros for a row of length 0."""
    mask = length_mask(lengths, values.shape[1]).unsqueeze(2)
    return (values * mask).sum(1) / lengths.clamp(min=1).unsqueeze(1)


def absent(like: SequenceOutput, size: int) -> SequenceOutput:
    """What stands for a modality that no row of ``like`` has: one empty step of ``size`` zeros, of length 0."""
    rows = len(like.lengths)
    sequence = like.sequence.new_zeros(rows, 1, size)
    return SequenceOutput(sequence, torch.zeros_like(like.lengths), sequence[:, 0])


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and tensor.device.type == "cpu":
        # From memory that is pinned nobody has to wait for the copy.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def pad(sequences: Sequence[Tensor | None]) -> Padded:
    """Sequences [T_i, ...] of one kind, padded with zeros to the longest; None, not for all, has no step."""
    some = next(sequence for sequence in sequences if sequence is not None)
    given = [some[:0] if sequence is None else sequence for sequence in sequences]
    lengths = torch.tensor([len(sequence) for sequence in given], dtype=torch.int64)
    return Padded(torch.nn.utils.rnn.pad_sequence(given, batch_first=True), lengths)


def round_length(length: int) -> int:
    """The next number of four significant binary digits: at most an eighth more, and 4 % in the mean.

    oneDNN plans a convolution anew for every length that it has not seen lately, which takes up to a quarter of a short
    sound's time. Of rounded lengths there are eight to an octave.
    """
    unit = 1 << max(length.bit_length() - 4, 0)
    return -(-length // unit) * unit
