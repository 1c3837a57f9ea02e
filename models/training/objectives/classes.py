"""Cross-entropy of classes."""

import torch.nn.functional as F
from torch import Tensor


def class_cross_entropy(
    logits: Tensor, targets: Tensor, *, smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy with label smoothing (Szegedy et al. 2016, sec. 7).

    Args:
        logits: [B, C]. Log-probabilities do as well.
        targets: int64 [B].
        smoothing: share of the target's probability that is spread over all classes, 0 <= smoothing < 1.
        weights: of the classes [C]: the mean is weighted by them.
    """
    return F.cross_entropy(logits, targets, weight=weights, label_smoothing=smoothing)
