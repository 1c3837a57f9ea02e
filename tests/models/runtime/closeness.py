"""When two results count as the same."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

EQUAL = 1e-4
"""Most that any number may differ, relative to the largest: other orders of summation, and no more."""


def close(one: Any, other: Any, most: float = EQUAL) -> bool:
    """Whether two tensors, or all tensors of two collections, are the same."""
    if isinstance(one, Tensor):
        if one.shape != other.shape or not bool((one.isfinite() == other.isfinite()).all()):
            return False
        finite = one.isfinite()
        if not bool(finite.any()):
            return True
        largest = max(float(other[finite].abs().max()), 1e-6)
        return float((one[finite] - other[finite]).abs().max()) <= most * largest
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(close(one[key], other[key], most) for key in one)
    return len(one) == len(other) and all(close(*pair, most) for pair in zip(one, other, strict=True))
