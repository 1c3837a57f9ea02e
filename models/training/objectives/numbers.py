"""Losses of predicted numbers."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from models.sequence import length_mask


def regression_loss(
    predictions: Tensor,
    targets: Tensor,
    *,
    std: Tensor | None = None,
    lengths: Tensor | None = None,
    kind: Literal["l1", "huber"] = "l1",
    delta: float = 1.0,
) -> Tensor:
    """Mean loss in units of the targets' standard deviation, so that it is of one size whatever the data's unit.

    Args:
        predictions: in the data's unit, [B, N], or [B, T, N] for each step.
        targets: of the same shape; NaN ones are not asked for.
        std: of the training targets [N], as a ``NumbersHead`` holds it; None where they are of unit scale.
        lengths: real steps of each row, int64 [B]: needed with steps, and only then.
        kind: absolute error, or Huber's (1964): squared up to ``delta`` standard deviations and linear beyond.

    Raises:
        ValueError: no target is asked for.
    """
    asked = ~targets.isnan()
    if lengths is not None:
        asked = asked & length_mask(lengths, targets.shape[1]).unsqueeze(2)
    if not bool(asked.any()):
        raise ValueError("a batch has no target: leave out examples without one")
    scale = predictions.new_ones(predictions.shape[-1]) if std is None else std
    found, wanted = (predictions / scale)[asked], (targets / scale)[asked]
    return F.l1_loss(found, wanted) if kind == "l1" else F.huber_loss(found, wanted, delta=delta)
