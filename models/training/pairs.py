"""Which media belong together: those of one example, though either of them may stand in others as well."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


class Pairs:
    """The pairs among the media of N examples: a picture with two captions, on two lines, belongs to both of them."""

    def __init__(self, examples: Sequence[Mapping[str, str]]) -> None:
        """``examples`` are digests by modality; all have the same modalities."""
        self.media = {name: _numbered([example[name] for example in examples]) for name in examples[0]}
        """Which medium of its modality an example has: int64 [N], from 0 on; equal where the digests are."""
        self._partners: dict[tuple[str, str], list[NDArray[np.int64]]] = {}

    def distinct(self, name: str) -> NDArray[np.int64]:
        """The first example of each medium of a modality: places int64 [M] in ascending order."""
        return np.unique(self.media[name], return_index=True)[1]

    def coarser(self, one: str, other: str) -> NDArray[np.int64]:
        """``media`` of the modality that has fewer: examples that share one of them fare alike."""
        return min(self.media[one], self.media[other], key=lambda media: int(media.max()))

    def among(self, one: str, other: str, rows: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
        """Bool [B, B]: whether the ``one`` of row i and the ``other`` of row j are together in any of all N examples.

        Args:
            rows: places int64 [B] of examples; None for all.
        """
        if (one, other) not in self._partners:
            self._partners[one, other] = _members(self.media[one], self.media[other])
        partners = self._partners[one, other]
        first, second = (self.media[name] if rows is None else self.media[name][rows] for name in (one, other))
        return np.stack([_isin(second, partners[medium]) for medium in first])


def _numbered(digests: Sequence[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], np.int64)


def _members(groups: NDArray[np.int64], items: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The ``items`` [N] of each of the ``groups`` [N] 0..G-1, in ascending order."""
    order = np.lexsort((items, groups))
    return np.split(items[order], np.searchsorted(groups[order], np.arange(1, int(groups.max()) + 1)))


def _isin(items: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.bool_]:
    """What ``np.isin`` gives, which would sort anew what may be long beside ``items``."""
    places = np.searchsorted(ascending, items).clip(max=len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[places] == items
    return found
