"""Made-up encoder outputs."""

import torch
from torch import Tensor

from models.sequence import SequenceOutput, length_mask, masked_mean

SIZES = {"audio": 3, "text": 4, "video": 5}


def outputs(lengths: dict[str, list[int]], sizes: dict[str, int] = SIZES, seed: int = 0) -> dict[str, SequenceOutput]:
    """Random sequences of ``lengths`` for each modality, 0 past their ends."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name in sorted(lengths):
        steps = torch.tensor(lengths[name])
        most = max(1, int(steps.max()))
        sequence = torch.randn(len(steps), most, sizes[name], generator=generator)
        sequence = sequence * length_mask(steps, most).unsqueeze(2)
        made[name] = SequenceOutput(sequence, steps, masked_mean(sequence, steps))
    return made


def vectors(rows: int = 2, sizes: dict[str, int] = SIZES) -> dict[str, SequenceOutput]:
    """One random step for each modality in each row."""
    return outputs({name: [1] * rows for name in sizes}, sizes)


def everything(inputs: dict[str, SequenceOutput]) -> Tensor:
    """``present`` where the lengths say so."""
    return torch.stack([inputs[name].lengths > 0 for name in sorted(inputs)], 1)
