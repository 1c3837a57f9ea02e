"""Losses of predicted numbers."""

import torch.nn.functional as F
from torch import Tensor


def regression_loss(predictions: Tensor, targets: Tensor, *, std: Tensor | None = None) -> Tensor:
    """Mean loss in units of the targets' standard deviation, so that it is of one size whatever the data's unit.

    It is Huber's (1964): squared up to one standard deviation and linear beyond.

    Args:
        predictions: in the data's unit, [B, N].
        targets: of the same shape.
        std: of the training targets [N], as a ``NumbersHead`` holds it; None where they are of unit scale.
    """
    scale = predictions.new_ones(predictions.shape[-1]) if std is None else std
    return F.huber_loss(predictions / scale, targets / scale)
