"""What encoders and fusion hand to a head."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from models.sequence import FusionOutput, SequenceOutput


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a head is built for: the size of each modality's encoder output and of the fused vector.

    ``sequence`` is the size of the fused steps, None where the fusion gives only one vector a row.
    """

    modalities: Mapping[str, int]
    fused: int
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A bundle after its encoders and the fusion: all that a head needs."""

    outputs: Mapping[str, SequenceOutput]
    fusion: FusionOutput

    def row(self, index: int) -> "Encoded":
        """One of the bundles by itself: without padding, and without the modalities that it lacks."""
        present = {name: output for name, output in self.outputs.items() if int(output.lengths[index])}
        return Encoded({name: output.row(index) for name, output in present.items()}, self.fusion.row(index))

    def memory(self) -> SequenceOutput:
        """Every modality's sequence, one after another in alphabetical order, for heads that attend."""
        return _concatenate([self.outputs[name] for name in sorted(self.outputs)])


def _concatenate(outputs: list[SequenceOutput]) -> SequenceOutput:
    """The rows' sequences one after another, without padding in between."""
    if len(outputs) == 1:
        return outputs[0]
    lengths = torch.stack([output.lengths for output in outputs]).sum(0)
    rows = [
        torch.cat([output.sequence[row, : int(output.lengths[row])] for output in outputs])
        for row in range(len(lengths))
    ]
    sequence = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return SequenceOutput(sequence, lengths, torch.stack([output.pooled for output in outputs]).mean(0))
