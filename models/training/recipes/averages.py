"""Means of weights: between two states of one network there often is one that generalizes better than both.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
"""

from collections.abc import Mapping

from torch import Tensor


def mean_of(some: Mapping[str, Tensor], others: Mapping[str, Tensor], share: float = 0.5) -> dict[str, Tensor]:
    """Weights on the way from ``some`` to ``others``, after the ``share`` of it."""
    return {
        name: value.lerp(others[name], share) if value.is_floating_point() else value for name, value in some.items()
    }
