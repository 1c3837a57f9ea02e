"""Photos of one written sign, found on its ground and normalized as MNIST's are.

MNIST's digits were scaled, with their shape kept, into 20 x 20 pixels and set with their centre of mass in the middle
of 28 x 28 (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", section III.A).
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from models.features.features import FEATURES, Features, Modality, Sources, as_bytes
from models.features.image import squared
from models.features.sheet import sheet
from models.features.text import TextTokenizer
from models.media.image import decode_image
from models.media.limits import MediaLimits

_BOX = 20 / 28
"""Longer side of the sign, as a share of the picture's."""
_PAGE = 1
"""Sides beyond which there may be a page around the sign, in sides of the picture that is made."""
_SEARCHED = 320
"""Longer side, in pixels, at which the sign is searched."""
_STRIP = 16
"""Shorter side of that, below which there is nothing to search in."""
_MARGIN = 0.25
"""What is set around a sign that fills its picture, as a share of the picture's longer side."""
_FRAMED = 4 * _SEARCHED
"""Most pixels of the longer side of a picture that gets a margin: around a strip that is much larger than itself."""
_ALIKE = 8
"""Levels of grey, of 256, that a picture of one colour may span."""
_MOST = 0.7
"""The least share of one sign in what stands out."""
_WINDOW = 0.5
"""Side of the window in which the ground is looked for, as a share of the picture's longer side."""
_CONTRAST = 8.0
"""How far ink must stand out, in deviations of the ground."""
_STROKE = 0.1
"""The least width of a stroke, as a share of the sign's longer side: MNIST's pens are thick."""

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]
"""Of how far it is from the ground."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What is read of a picture, uint8 [3, size, size], and what is to be noticed about it, if anything."""

    pixels: Tensor
    notice: Literal["blank", "no_sign", "several_signs"] | None = None


class InkFeatures(Features):
    """One sign, dark on light or light on dark, as light ink on black.

    The ground may be lit unevenly and hold other, smaller things; where they are much, that is noticed as
    ``several_signs``. A page that lies on a desk or in a dark frame is cut out first. Where no ink stands out, which is
    noticed as ``no_sign``, a picture is taken for one that is cropped to the sign, and gets a margin. One that is too
    small to be a page is taken as it is, stretched to the square.
    """

    type: Literal["ink"] = "ink"
    size: int = Field(28, ge=8, le=256, description="Side of the square, pixels")

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=16)

    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[Sign]:
        """The sign of each photo."""
        target = max(_SEARCHED, self.size)
        photos = sources.get(modality, [])[:room]
        return [self.find(decode_image(as_bytes(data), limits, target=target, ink=True)) for data in photos]

    def find(self, picture: NDArray[np.uint8]) -> Sign:
        """The sign in an RGB picture [H, W, 3]."""
        if int(picture.max()) - int(picture.min()) < _ALIKE:
            return Sign(squared(picture, self.size), "blank")
        if min(picture.shape[:2]) <= _PAGE * self.size:
            return Sign(squared(picture, self.size))
        if (found := _on_sheet(picture) or _ink(picture)) is not None:
            ink, share = found
            return Sign(_centred(ink, self.size), "several_signs" if share < _MOST else None)
        # In a picture cropped to its sign ink is no rarer than ground. Whether it is one cannot be told.
        if (found := _ink(_framed(picture))) is not None:
            return Sign(_centred(found[0], self.size), "no_sign")
        return Sign(squared(picture, self.size), "no_sign")

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:  # noqa: ARG002
        """Signs -> uint8 [T, 3, size, size]."""
        return torch.stack([sign.pixels for sign in media])

    def blank(self) -> list[Sign]:
        """One grey picture."""
        return [self.find(np.full((_SEARCHED, _SEARCHED, 3), 127, np.uint8))]

    def notices(self, media: list[Any], read: Tensor, tokenizer: TextTokenizer | None = None) -> list[str]:  # noqa: ARG002
        """``blank``: a picture of one colour; ``no_sign``: nothing stands out; ``several_signs``: much else does."""
        return sorted({sign.notice for sign in media if sign.notice is not None})


def _on_sheet(picture: NDArray[np.uint8]) -> tuple[Ink, float] | None:
    """The sign on a sheet in the picture, as ``_ink`` gives it; None where there is no sheet, or more than a sign."""
    part = sheet(picture)
    found = None if part is None else _ink(part)
    return found if found is not None and found[1] >= _MOST else None


def _framed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with a margin in the colour of its corners; a large one is scaled down first."""
    scale = _FRAMED / max(picture.shape[:2])
    if scale < 1:
        height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    corners = np.median(picture[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0)
    reach = round(_MARGIN * max(picture.shape[:2]))
    colour = [int(value) for value in corners]
    framed = cv2.copyMakeBorder(picture, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=colour)
    return np.asarray(framed, np.uint8)


def _ink(picture: NDArray[np.uint8]) -> tuple[Ink, float] | None:
    """The sign, cut out, and its share in all that stands out; None where nothing does, and in a strip."""
    scale = _SEARCHED / max(picture.shape[:2])
    if scale * min(picture.shape[:2]) < _STRIP:
        return None
    large = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if scale < 1:
        large = cv2.resize(large, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey: Grey = np.asarray(cv2.GaussianBlur(large, (3, 3), 0), np.uint8)
    ground = _ground(grey)
    first = _sign(_far(grey, ground)[1])
    if _cut(first):
        # The picture is cropped so closely that in a corner's window there may be more ink than ground.
        ground[:] = _level(grey)
        first = _sign(_far(grey, ground)[1])
    if not first.any():
        return None
    # In the middle of a blot most of the window is ink: under the sign the ground is that around it.
    hull = cv2.convexHull(cv2.findNonZero(first))
    under = cv2.dilate(cv2.fillConvexPoly(np.zeros_like(grey), hull, 1), np.ones((9, 9), np.uint8))
    small = cv2.resize(under, ground.shape[::-1], interpolation=cv2.INTER_NEAREST)
    away, mask = _far(grey, np.asarray(cv2.inpaint(ground, small, 3, cv2.INPAINT_TELEA), np.uint8))
    sign = _sign(mask)
    if not sign.any():
        return None
    return _cut_out(away, sign), float(sign.sum()) / float(mask.sum())


def _cut_out(away: Ink, mask: Grey) -> Ink:
    """The ink under the mask [H, W], in 0 to 1, with strokes that are not too thin to survive scaling."""
    across, down = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    box = slice(int(down[0]), int(down[-1]) + 1), slice(int(across[0]), int(across[-1]) + 1)
    mask, away = mask[box], away[box]
    side = max(mask.shape)
    # Across a stroke of width w the distance to its border is w / 4 in the mean.
    width = 4 * float(cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1][mask > 0].mean())
    inked = np.minimum(away / float(np.percentile(away[mask > 0], 60)), 1) * mask
    if width < _STROKE * side:
        grown = round(_STROKE * side - width)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (grown + 1, grown + 1))
        inked = cv2.dilate(np.pad(inked, grown), kernel)
    return np.asarray(inked, np.float32)


def _ground(grey: Grey) -> Grey:
    """What most pixels in a wide window around each are, at a quarter of the size: it follows a shadow's edge."""
    small = cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    reach = max(1, int(max(small.shape) * _WINDOW) // 2)
    around = cv2.copyMakeBorder(small, reach, reach, reach, reach, cv2.BORDER_REFLECT)
    ground = cv2.medianBlur(around, 2 * reach + 1)[reach:-reach, reach:-reach]
    return np.ascontiguousarray(ground, np.uint8)


def _level(grey: Grey) -> int:
    """Of two levels, dark and light, the one that more pixels have."""
    bound, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    dark = grey <= bound
    return int(np.median(grey[dark if dark.mean() > 0.5 else ~dark]))


def _cut(mask: Grey) -> bool:
    """Whether the picture's border cuts what is in the mask."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _far(grey: Grey, ground: Grey) -> tuple[Ink, Grey]:
    """How far each pixel is from the ground, towards the ink's side of it, and where it is so far that it is ink."""
    away = grey.astype(np.float32) - cv2.resize(ground, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    # Ink is rarer than ground, and farther from what most pixels are.
    if (np.minimum(away, 0) ** 4).sum() > (np.maximum(away, 0) ** 4).sum():
        away = -away
    noise = 1.4826 * float(np.median(np.abs(away)))
    away = np.maximum(away, 0)
    bound, _ = cv2.threshold(np.minimum(away, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    mask = (away > bound).astype(np.uint8)
    stands_out = mask.any() and float(away[mask > 0].mean()) > _CONTRAST * max(noise, 1)
    return away, mask if stands_out else np.zeros_like(mask)


def _sign(mask: Grey) -> Grey:
    """Of all that stands out, the largest thing that the picture's border does not cut, and what lies close to it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 3:
        return mask
    left, top, width, height, area = (stats[1:, column] for column in range(5))
    cut = (left == 0) | (top == 0) | (left + width == mask.shape[1]) | (top + height == mask.shape[0])
    worth = np.where(cut & (~cut).any(), area * 0.05, area)
    first = int(worth.argmax())
    near = 0.25 * max(width[first], height[first])
    close = (
        (left < left[first] + width[first] + near)
        & (left + width > left[first] - near)
        & (top < top[first] + height[first] + near)
        & (top + height > top[first] - near)
    )
    wanted = close & (area >= 0.08 * area[first]) & ~(cut & ~cut[first])
    return np.isin(labels, 1 + np.flatnonzero(wanted)).astype(np.uint8)


def _centred(ink: Ink, size: int) -> Tensor:
    """Ink in 0 to 1, scaled into the box and set with its centre of mass in the middle: uint8 [3, size, size]."""
    scale = _BOX * size / max(ink.shape)
    height, width = (max(1, round(side * scale)) for side in ink.shape)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    small = np.clip(cv2.resize(ink, (width, height), interpolation=how), 0, 1)
    rows, columns = small.sum(1), small.sum(0)
    middle = [float(sums @ (np.arange(len(sums)) + 0.5)) / float(sums.sum()) for sums in (rows, columns)]
    move = np.array([[1, 0, size / 2 - middle[1]], [0, 1, size / 2 - middle[0]]], np.float32)
    placed = cv2.warpAffine(small, move, (size, size), flags=cv2.INTER_LINEAR)
    grey = np.asarray((255 * placed / max(float(placed.max()), 1e-6)).round(), np.uint8)
    return torch.from_numpy(grey).expand(3, -1, -1).contiguous()


FEATURES.register("ink", InkFeatures)(InkFeatures)
