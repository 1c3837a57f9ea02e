"""Encoded bundles made by hand: what encoders and a fusion would return."""

import torch
from torch import Tensor

from models.encoded import Encoded
from models.sequence import FusionOutput, SequenceOutput, length_mask, masked_mean


def steps(rows: int, size: int, *lengths: int, seed: int = 0) -> SequenceOutput:
    """Random sequences, zero after their lengths (as many steps as the longest has)."""
    generator = torch.Generator().manual_seed(seed)
    real = torch.tensor(lengths)
    sequence = torch.randn(rows, max(lengths), size, generator=generator)
    sequence = sequence * length_mask(real, max(lengths)).unsqueeze(2)
    return SequenceOutput(sequence, real, masked_mean(sequence, real))


def bundle(
    fused: Tensor,
    sequence: SequenceOutput | None = None,
    votes: Tensor | None = None,
    **outputs: SequenceOutput,
) -> Encoded:
    """An encoded batch whose present modalities contribute alike."""
    present = torch.stack([outputs[name].lengths > 0 for name in sorted(outputs)], 1).float()
    return Encoded(outputs, FusionOutput(fused, lambda: present / present.sum(1, keepdim=True), sequence, votes))
