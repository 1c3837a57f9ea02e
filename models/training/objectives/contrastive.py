"""Losses that bring together what belongs together in a joint space, and push the rest of the batch apart."""

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.heads.embedding import Embeddings

Objective = Callable[[Tensor, Tensor | None], Tensor]
"""Loss of cosines [N, N], the pairs on the diagonal, and of the groups [N] that the rows belong to, if any."""


def info_nce(cosines: Tensor, groups: Tensor | None = None, *, scale: Tensor | float = 1.0) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018, eq. 4; both ways as in CLIP, Radford et al. 2021).

    The mean of two cross-entropies over softmax(scale * cosine): row i's partner is column i, and the other way round.

    Args:
        cosines: [N, N]; row i and column i belong together.
        groups: int64 [N]; rows of one group (captions of one photo, say) are not each other's negatives.
        scale: 1 / temperature, as ``Embeddings.scale``.
    """
    scores = (cosines * scale).masked_fill(_positives(cosines, groups), float("-inf"))
    wanted = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.t(), wanted)) / 2


def max_violation(cosines: Tensor, groups: Tensor | None = None, *, margin: float = 0.2) -> Tensor:
    """Hinge on the hardest negative of the batch (VSE++, Faghri et al. 2018, eq. 6), as a mean over the rows.

    max_j [margin + s(i, j) - s(i, i)]_+ + max_j [margin + s(j, i) - s(i, i)]_+ over j that is not i's partner.
    """
    if len(cosines) < 2:
        raise ValueError("a hinge on negatives needs a batch of at least two pairs")
    positive = cosines.diagonal()
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    negatives = cosines.masked_fill(_positives(cosines, groups) | itself, -1)
    across = (margin + negatives.amax(1) - positive).clamp(min=0)
    down = (margin + negatives.amax(0) - positive).clamp(min=0)
    return (across + down).mean()


def over_pairs(embeddings: Embeddings, objective: Objective, groups: Tensor | None = None) -> Tensor:
    """Mean of ``objective`` over every two modalities, each on the rows that have both.

    Raises:
        ValueError: no two modalities are present in two rows together.
    """
    losses = []
    for one, other in combinations(sorted(embeddings.vectors), 2):
        both = embeddings.present[one] & embeddings.present[other]
        if int(both.sum()) > 1:
            cosines = embeddings.vectors[one][both] @ embeddings.vectors[other][both].t()
            losses.append(objective(cosines, None if groups is None else groups[both]))
    if not losses:
        raise ValueError("no two modalities are in two rows of the batch together: contrast needs pairs")
    return torch.stack(losses).mean()


def _positives(cosines: Tensor, groups: Tensor | None) -> Tensor:
    """Bool [N, N]: pairs of one group beside the diagonal, which are no negatives."""
    if groups is None:
        return torch.zeros_like(cosines, dtype=torch.bool)
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    return (groups.unsqueeze(0) == groups.unsqueeze(1)) & ~itself
