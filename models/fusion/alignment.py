"""Sequences of different rates brought to common steps.

Position decides: a row's modalities are taken to begin and end together, as a video's frames and its sound do. The
longest of them sets the row's number of steps, and every other is read at the same relative positions. Only a row's
own lengths matter, so padding and batch-mates change nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.fusion.presence import complete
from models.sequence import SequenceOutput, length_mask

Interpolation = Literal["nearest", "linear"]


@dataclass(frozen=True, slots=True)
class Steps:
    """A tensor [B, T, D_m] for each modality, alphabetically, and how many of the T steps a row has: int64 [B]."""

    values: list[Tensor]
    lengths: Tensor


class Alignment(nn.Module):
    """Brings all modalities to each row's common steps; an absent one is a learned vector at each of them."""

    def __init__(self, sizes: Mapping[str, int], interpolation: Interpolation = "nearest") -> None:
        super().__init__()
        self.modalities = sorted(sizes)
        self.sizes = [sizes[name] for name in self.modalities]
        self.interpolation = interpolation
        self.absent = nn.ParameterDict({name: nn.Parameter(torch.zeros(sizes[name])) for name in self.modalities})

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> Steps:
        """Align what ``present`` bool [B, M] says is there.

        Raises:
            ValueError: a row has no modality at all.
        """
        full = full_steps(inputs, present)
        if full is not None:
            return full
        whole = complete(present)
        lengths = common_lengths(inputs, present)
        most = int(lengths.max())
        values = []
        for column, name in enumerate(self.modalities):
            aligned = resample(inputs[name].sequence, inputs[name].lengths, lengths, most, self.interpolation)
            values.append(aligned if whole else torch.where(present[:, column, None, None], aligned, self.absent[name]))
        return Steps(values, lengths)

    def step(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> list[Tensor]:
        """One chunk of every modality, all its steps real: a tensor [B, t, D_m] each, alphabetically.

        Nothing is resampled, for where a step lies in the whole is known only at the end.

        Raises:
            ValueError: a modality that is present has more or fewer steps than another.
        """
        counts = [inputs[name].sequence.shape[1] for name in self.modalities]
        here = present.any(0).tolist()
        some = {count for count, used in zip(counts, here, strict=True) if used}
        if len(some) > 1:
            each = ", ".join(
                f"{count} of {name}" for name, count, used in zip(self.modalities, counts, here, strict=True) if used
            )
            raise ValueError(f"a stream needs as many steps of every modality in each chunk: this one has {each}")
        steps = some.pop() if some else 0
        values = []
        for column, name in enumerate(self.modalities):
            nothing = self.absent[name].expand(len(present), steps, -1)
            if here[column]:
                nothing = torch.where(present[:, column, None, None], inputs[name].sequence, nothing)
            values.append(nothing)
        return values


def full_steps(inputs: Mapping[str, SequenceOutput], present: Tensor) -> Steps | None:
    """The sequences as they are, if nothing is missing, all are equally long and none has padding."""
    sequences = [inputs[name].sequence for name in sorted(inputs)]
    lengths = [output.lengths for output in inputs.values()]
    steps = sequences[0].shape[1]
    if any(sequence.shape[1] != steps for sequence in sequences) or not all(map(all, present.tolist())):
        return None
    if any(min(each.tolist()) < steps for each in lengths):
        return None
    return Steps(sequences, lengths[0])


def common_lengths(inputs: Mapping[str, SequenceOutput], present: Tensor) -> Tensor:
    """Each row's longest present sequence, in steps: int64 [B]."""
    lengths = torch.stack([inputs[name].lengths for name in sorted(inputs)], 1)
    return (lengths * present).amax(1)


def resample(sequence: Tensor, lengths: Tensor, target: Tensor, steps: int, interpolation: Interpolation) -> Tensor:
    """Read ``sequence`` [B, T, D] of ``lengths`` [B] at ``target`` [B] evenly spaced positions -> [B, ``steps``, D].

    Steps are intervals: the centre of step t of n lies at (t + 1/2) / n of the whole, and reads the step that covers
    it (``nearest``) or the two whose centres lie around it (``linear``; before the first and after the last centre,
    the first and the last step). Equal lengths give the sequence itself. Past ``target[b]`` there is something finite.
    """
    if torch.equal(lengths, target):
        kept = sequence[:, :steps]
        return kept if int(lengths.min()) == steps else kept.masked_fill(~length_mask(lengths, steps).unsqueeze(2), 0)
    have, want = lengths.clamp(min=1).unsqueeze(1), target.clamp(min=1).unsqueeze(1)
    wanted = torch.minimum(torch.arange(steps, device=lengths.device).unsqueeze(0), want - 1)
    # Twice the position, in units of 1 / want: whole numbers, so that no length is rounded to a neighbour.
    doubled = (2 * wanted + 1) * have
    if interpolation == "nearest":
        return _pick(sequence, doubled // (2 * want))
    doubled = (doubled - want).clamp(min=0)
    low = doubled // (2 * want)
    part = ((doubled % (2 * want)) / (2 * want)).to(sequence.dtype).unsqueeze(2)
    first, second = _pick(sequence, low), _pick(sequence, torch.minimum(low + 1, have - 1))
    return torch.lerp(first, second, part)


def _pick(sequence: Tensor, index: Tensor) -> Tensor:
    return sequence.gather(1, index.unsqueeze(2).expand(-1, -1, sequence.shape[2]))
