"""What the targets that are sentences share."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def read_sentence(fields: Mapping[str, Any], name: str) -> str:
    """A sentence from a manifest's line.

    Raises:
        ValueError: it is missing or empty.
    """
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"'{name}' must be a sentence, not {value!r}")
    return value


def spread(lengths: list[int]) -> dict[str, float]:
    """Shortest, median and longest."""
    return {"min": min(lengths), "median": float(np.median(lengths)), "max": max(lengths)} if lengths else {}
