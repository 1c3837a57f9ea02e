"""The light sheet in a photo: a page that lies on a desk, or what a dark frame or a scan's border surrounds."""

import cv2
import numpy as np
from numpy.typing import NDArray

_SEARCHED = 320
"""Longer side, in pixels, at which the sheet is searched."""
_LEAST = 0.1
"""The least share of the picture that a sheet takes."""
_FULL = 0.92
"""The least share of its hull that a sheet's outline encloses: more is missing of a shape with bays."""
_SQUARE = 0.88
"""The least share of the smallest rectangle around it that the hull fills: an ellipse fills 0.79."""
_SLIM = 0.4
"""The least ratio of its sides: a single stroke is a rectangle, too."""
_PAPER = 0.7
"""The least share of it that is light: of a zero drawn as a box less is."""
_EDGE = 9
"""Twice the pixels, about, that are left out along its edge, where the desk shines in."""


def sheet(picture: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The box around the sheet in an RGB picture [H, W, 3], the sheet's median colour around it; None without one.

    A page that reaches two sides of the picture needs no search: what lies beside it is cut off by the border.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, _SEARCHED / max(grey.shape))
    if scale * min(grey.shape) < _EDGE:
        return None
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, light = cv2.threshold(cv2.GaussianBlur(grey, (5, 5), 0), 0, 1, cv2.THRESH_OTSU)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(light, connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, 4].argmax())
    left, top, width, height, area = (int(value) for value in stats[largest])
    height_all, width_all = grey.shape
    if (left == 0) + (top == 0) + (left + width == width_all) + (top + height == height_all) > 1:
        return None
    outlines, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.convexHull(outlines[0])
    whole, sides = cv2.contourArea(hull), cv2.minAreaRect(hull)[1]
    if (
        whole < _LEAST * grey.size
        or cv2.contourArea(outlines[0]) < _FULL * whole
        or whole < _SQUARE * sides[0] * sides[1]
        or min(sides) < _SLIM * max(sides)
        or area < _PAPER * whole
    ):
        return None
    inner = cv2.fillConvexPoly(np.zeros_like(grey), hull, 1)
    inner = cv2.erode(inner, np.ones((_EDGE, _EDGE), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return _boxed(picture, cv2.resize(inner, picture.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0)


def _boxed(picture: NDArray[np.uint8], inner: NDArray[np.bool_]) -> NDArray[np.uint8] | None:
    """The box around what is ``inner`` [H, W], and the median colour of that for the rest of the box."""
    down, across = np.flatnonzero(inner.any(1)), np.flatnonzero(inner.any(0))
    if not len(down):
        return None
    box = slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1)
    part, inside = picture[box].copy(), inner[box]
    part[~inside] = np.median(part[inside], axis=0).astype(np.uint8)
    return part
