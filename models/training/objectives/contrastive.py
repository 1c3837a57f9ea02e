"""Losses that bring together what belongs together in a joint space, and push the rest of the batch apart."""

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.heads.embedding import Embeddings

Objective = Callable[[Tensor, Tensor | None], Tensor]
"""Loss of cosines [N, N], the pairs on the diagonal, and of bool [N, N], what else belongs together, if anything."""


def info_nce(cosines: Tensor, together: Tensor | None = None, *, scale: Tensor | float = 1.0) -> Tensor:
    """Symmetric InfoNCE (van den Oord et al. 2018, eq. 4; both ways as in CLIP, Radford et al. 2021).

    The mean of two cross-entropies over softmax(scale * cosine): row i's partner is column i, and the other way round.

    Args:
        cosines: [N, N]; row i and column i belong together.
        together: bool [N, N]; what belongs together beside the diagonal (a photo and its other captions, say) is no
            negative.
        scale: 1 / temperature, as ``Embeddings.scale``.
    """
    scores = (cosines * scale).masked_fill(_others(cosines, together), float("-inf"))
    wanted = torch.arange(len(cosines), device=cosines.device)
    return (F.cross_entropy(scores, wanted) + F.cross_entropy(scores.t(), wanted)) / 2


def max_violation(cosines: Tensor, together: Tensor | None = None, *, margin: float = 0.2) -> Tensor:
    """Hinge on the hardest negative of the batch (VSE++, Faghri et al. 2018, eq. 6), as a mean over the rows.

    max_j [margin + s(i, j) - s(i, i)]_+ + max_j [margin + s(j, i) - s(i, i)]_+ over j that is not i's partner, nor
    ``together`` with it as in ``info_nce``.
    """
    if len(cosines) < 2:
        raise ValueError("a hinge on negatives needs a batch of at least two pairs")
    positive = cosines.diagonal()
    itself = torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
    negatives = cosines.masked_fill(_others(cosines, together) | itself, -1)
    across = (margin + negatives.amax(1) - positive).clamp(min=0)
    down = (margin + negatives.amax(0) - positive).clamp(min=0)
    return (across + down).mean()


def over_pairs(
    embeddings: Embeddings, objective: Objective, together: Callable[[str, str], Tensor] | None = None
) -> Tensor:
    """Mean of ``objective`` over every two modalities, each on the rows that have both.

    Args:
        together: of two modalities, bool [B, B]: which rows of the one belong to which of the other; by default each
            to its own.

    Raises:
        ValueError: no two modalities are present in two rows together.
    """
    losses = []
    for one, other in combinations(sorted(embeddings.vectors), 2):
        both = embeddings.present[one] & embeddings.present[other]
        if int(both.sum()) > 1:
            cosines = embeddings.vectors[one][both] @ embeddings.vectors[other][both].t()
            losses.append(objective(cosines, None if together is None else together(one, other)[both][:, both]))
    if not losses:
        raise ValueError("no two modalities are in two rows of the batch together: contrast needs pairs")
    return torch.stack(losses).mean()


def _others(cosines: Tensor, together: Tensor | None) -> Tensor:
    """Bool [N, N]: what belongs together beside the diagonal."""
    if together is None:
        return torch.zeros_like(cosines, dtype=torch.bool)
    return together & ~torch.eye(len(cosines), dtype=torch.bool, device=cosines.device)
