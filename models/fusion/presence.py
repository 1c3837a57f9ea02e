"""What is present, and what each present modality contributes."""

from collections.abc import Callable

import torch
from torch import Tensor

_LEAST = 1e-8


def complete(present: Tensor) -> bool:
    """Whether nothing is missing from ``present``, bool [B, M], so that nothing need be masked.

    Raises:
        ValueError: a row has no modality at all.
    """
    # Looked at in Python: for the few flags of a batch that is faster than torch's reductions.
    rows = present.tolist()
    if not all(map(any, rows)):
        raise ValueError("a row has no modality: at least one must be present")
    return all(map(all, rows))


def shares(amounts: Tensor, present: Tensor) -> Tensor:
    """Contributions [B, M] from ``amounts`` [B, M] >= 0: each present modality's share of its row's sum.

    Rows sum to 1 and are 0 where absent; present modalities share alike where all amounts are 0. No gradient flows
    back: contributions explain a result and train nothing.
    """
    kept = (amounts.detach() + _LEAST) * present
    return kept / kept.sum(1, keepdim=True)


def drop_one(fuse: Callable[[Tensor], Tensor], present: Tensor) -> Tensor:
    """Contributions [B, M] by leaving out: how far ``fuse(present)`` [B, F] moves (L2) without each, as shares.

    ``fuse`` must be finite for a row that has nothing left; such a row had one modality, which contributed everything.
    """
    with torch.no_grad():
        whole = fuse(present)
        changes = []
        for column in range(present.shape[1]):
            fewer = present.clone()
            fewer[:, column] = False
            changes.append((fuse(fewer) - whole).norm(dim=1))
        return shares(torch.stack(changes, 1), present)
