"""How the hand that holds a camera shakes it."""

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]

_EYES = (-0.6, -0.6, 0.6, 0.15)
"""Left, top, right and bottom, in sides of the face's square from its centre: what speaking moves least."""

_SURE = 0.1
"""Response of the correlation, 0 to 1, below which the two pictures are not of the same."""

_FARTHEST = 0.2
"""Sides of the face's square from one frame to the next: more is no shaking."""

_SWAY = 13
"""Frames over which a path is averaged to tell shaking from moving on: half a second."""

_STILL = 0.0065
"""Root mean square distance from that average, in sides of the face's square. In 97 of 100 clips of one who sits and
speaks it stays below; a camera that shakes by a pixel, in a face of 138, has 0.008."""

_LEAST = 16
"""Pixels: in less there is nothing to compare."""


class Path:
    """Where the eyes are in the last ``length`` frames [H, W], in pixels from where they began: x + iy."""

    def __init__(self, length: int) -> None:
        self.end = 0
        self._places: deque[complex] = deque(maxlen=length)
        self._swayed: deque[float] = deque(maxlen=length - _SWAY + 1)
        self._previous: Grey | None = None

    def add(self, frame: Grey, face: tuple[float, float, float] | None) -> None:
        """Take the next frame, with about where the face is, (x, y, side); without one nothing moves."""
        moved = 0j if face is None or self._previous is None else _moved(self._previous, frame, face)
        self._places.append(self._places[-1] + moved if self._places else moved)
        self._previous = frame
        self.end += 1
        if len(self._places) >= _SWAY:
            latest = list(self._places)[-_SWAY:]
            self._swayed.append(abs(latest[_SWAY // 2] - sum(latest) / _SWAY) ** 2)

    def moved(self, start: int, to: int) -> tuple[float, float]:
        """By how much, (x, y) in pixels, from one frame to another."""
        first = self.end - len(self._places)
        by = self._places[to - first] - self._places[start - first]
        return by.real, by.imag

    def shaken(self, side: float) -> bool:
        """Whether the eyes of a face of ``side`` pixels sway as they do where nobody holds the camera still."""
        return sum(self._swayed) > len(self._swayed) * (_STILL * side) ** 2


def _moved(before: Grey, after: Grey, face: tuple[float, float, float]) -> complex:
    """How far the eyes are from where they were, by phase correlation (Kuglin and Hines 1975)."""
    x, y, side = face
    height, width = after.shape
    left, right = (min(max(0, round(x + part * side)), width) for part in _EYES[::2])
    top, bottom = (min(max(0, round(y + part * side)), height) for part in _EYES[1::2])
    if before.shape != after.shape or min(right - left, bottom - top) < _LEAST:
        return 0j
    # Sizes that the transform is made for take a third of the time.
    wide, high = _quick(right - left), _quick(bottom - top)
    parts = (frame[top : top + high, left : left + wide].astype(np.float32) for frame in (before, after))
    # The window's own shape, which does not move, would be found in pictures that are not of zero mean.
    some, others = (part - cv2.mean(part)[0] for part in parts)
    (across, down), response = cv2.phaseCorrelate(some, others, cv2.createHanningWindow((wide, high), cv2.CV_32F))
    return 0j if response < _SURE or abs(across) + abs(down) > _FARTHEST * side else complex(across, down)


def _quick(size: int) -> int:
    """The longest even one not above ``size`` without a prime factor above 5; odd ones are found half a pixel off."""
    size -= size % 2
    while cv2.getOptimalDFTSize(size) != size:
        size -= 2
    return size
