"""Nested tables, one line a value."""

from collections.abc import Iterator, Mapping
from typing import Any


def flat(table: Mapping[str, Any], separator: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is no table, under the names on the way to it, joined by ``separator``."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, separator, f"{prefix}{name}{separator}")
        else:
            yield f"{prefix}{name}", value
