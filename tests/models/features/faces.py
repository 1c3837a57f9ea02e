"""Drawn faces: no more than what a cascade looks for, dark eyes under brows in a bright oval, and lips that move."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter


def face(
    x: float, y: float, size: float, *, opened: float = 0.0, height: int = 240, width: int = 320
) -> NDArray[np.uint8]:
    """A frame, RGB [height, width, 3], with a face ``size`` pixels wide around (x, y), its mouth open from 0 to 1."""
    picture = Image.new("L", (width, height), 90)
    draw = ImageDraw.Draw(picture)

    def oval(dx: float, dy: float, w: float, h: float, tone: int) -> None:
        cx, cy, w, h = x + dx * size, y + dy * size, w * size / 2, h * size / 2
        draw.ellipse((cx - w, cy - h, cx + w, cy + h), fill=tone)

    oval(0, -0.08, 1.06, 1.42, 40)
    oval(0, 0.05, 0.94, 1.25, 190)
    for side in (-1, 1):
        oval(side * 0.21, -0.2, 0.26, 0.07, 70)
        oval(side * 0.21, -0.1, 0.2, 0.1, 60)
    oval(0, 0.02, 0.12, 0.34, 215)
    oval(0, 0.17, 0.2, 0.06, 130)
    oval(0, 0.42, 0.36, 0.09 + 0.16 * opened, 100)
    oval(0, 0.42, 0.28, 0.02 + 0.14 * opened, 30)
    blurred = picture.filter(ImageFilter.GaussianBlur(size / 50))
    return np.repeat(np.asarray(blurred)[:, :, None], 3, axis=2)


def textured(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame with the grain of skin and hair, which moves with it."""
    grain = np.random.default_rng(0).normal(0, 6, frame.shape[:2])
    return (frame + grain[..., None]).clip(0, 255).astype(np.uint8)
