"""Connectionist temporal classification (Graves et al. 2006): -log of the sum over all paths that spell the target."""

import torch.nn.functional as F
from torch import Tensor

from models.sequence import length_mask


def ctc_loss(
    log_probabilities: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, *, blank: int
) -> Tensor:
    """Mean over the rows of -log p(target | steps) / words in the target.

    Args:
        log_probabilities: natural, [B, T, V].
        lengths: real steps of each row, int64 [B].
        targets: int64 [B, L], padded with anything; ``target_lengths`` int64 [B] says how many are real.

    Raises:
        ValueError: a row has too few steps to spell its target: a step a word, and a blank between two equal words.
    """
    real = length_mask(target_lengths, targets.shape[1])
    needed = steps_needed(targets, target_lengths)
    if bool((lengths < needed).any()):
        row = int((lengths < needed).nonzero()[0])
        raise ValueError(
            f"row {row} has {int(lengths[row])} steps, fewer than the {int(needed[row])} that its target of "
            f"{int(target_lengths[row])} words needs: leave it out, or let the encoder give more steps a second"
        )
    # torch's kernel may read any target that it is given, real or not.
    safe = targets.masked_fill(~real, 0 if blank != 0 else 1)
    return F.ctc_loss(log_probabilities.transpose(0, 1), safe, lengths, target_lengths, blank=blank, reduction="mean")


def steps_needed(targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Fewest steps int64 [B] that spell targets [B, L]: one a word, and a blank between two equal words."""
    real = length_mask(target_lengths, targets.shape[1])
    return target_lengths + ((targets[:, 1:] == targets[:, :-1]) & real[:, 1:]).sum(1)
