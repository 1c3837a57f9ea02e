"""The bars of one colour that a player, an editor or a phone puts above and below a picture, or beside it."""

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

_LEAST = 0.03
"""The least width of a bar, as a share of the picture's side."""
_MOST = 0.45
"""Where one colour goes on for longer, it is the picture's own."""
_TOLERANCE = 12
"""Levels, of 256, by which a bar's pixels differ from its colour: JPEG blurs its edge."""
_ALIKE = 0.98
"""The least share of a line that has the bar's colour."""
_STRAIGHT = 0.5
"""The least share of the picture's own edges that has another colour: an object before a plain ground has no edge."""
_SEEN = 512
"""Pixels of a line, about, that are looked at."""


def unbarred(picture: Picture) -> Picture:
    """An RGB picture [H, W, 3] without its bars; the same array where it has none.

    Only bars that come in pairs are cut off: a plain sky is on one side.
    """
    top, bottom = _pair(picture)
    left, right = _pair(picture.swapaxes(0, 1))
    height, width = picture.shape[:2]
    if top and not _straight(picture[:, left : width - right], top, bottom):
        top = bottom = 0
    if left and not _straight(picture[top : height - bottom].swapaxes(0, 1), left, right):
        left = right = 0
    return picture[top : height - bottom, left : width - right] if top or left else picture


def _pair(lines: Picture) -> tuple[int, int]:
    """Lines [N, L, 3] at both ends that are bars; none unless both are."""
    lines = lines[:, :: max(1, lines.shape[1] // _SEEN)]
    first = _bar(lines)
    last = _bar(lines[::-1]) if first else 0
    return (first, last) if last else (0, 0)


def _bar(lines: Picture) -> int:
    colour, most = _colour(lines), int(_MOST * len(lines))
    count = next((index for index in range(most) if _differing(lines[index], colour) > 1 - _ALIKE), most)
    return count if _LEAST * len(lines) <= count < most else 0


def _straight(lines: Picture, first: int, last: int) -> bool:
    """Whether just within the bars most is of another colour; the line at the edge itself is blurred."""
    inwards = 2 + len(lines) // 50
    shares = [_differing(side[count + inwards], _colour(side)) for side, count in ((lines, first), (lines[::-1], last))]
    return sum(shares) / 2 >= _STRAIGHT


def _colour(lines: Picture) -> NDArray[np.float64]:
    return np.asarray(np.median(lines[0], axis=0), np.float64)


def _differing(line: Picture, colour: NDArray[np.float64]) -> float:
    """The share of a line's pixels [L, 3] that have another colour."""
    return float((np.abs(line - colour) > _TOLERANCE).any(1).mean())
