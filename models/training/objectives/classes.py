"""Cross-entropy of classes, for one answer a bundle or one a step."""

import torch.nn.functional as F
from torch import Tensor

from models.sequence import length_mask


def class_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    lengths: Tensor | None = None,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy with label smoothing (Szegedy et al. 2016, sec. 7).

    Args:
        logits: [B, C], or [B, T, C] with one answer a step. Log-probabilities do as well.
        targets: int64 [B] or [B, T]; negative ones are not asked for.
        lengths: real steps of each row, int64 [B]: needed with steps, and only then.
        smoothing: share of the target's probability that is spread over all classes, 0 <= smoothing < 1.
        weights: of the classes [C]: the mean is weighted by them.

    Raises:
        ValueError: no target is asked for.
    """
    asked = targets >= 0
    if lengths is not None:
        asked = asked & length_mask(lengths, targets.shape[1])
    if not bool(asked.any()):
        raise ValueError("a batch has no target: leave out examples without one")
    return F.cross_entropy(logits[asked], targets[asked], weight=weights, label_smoothing=smoothing)
