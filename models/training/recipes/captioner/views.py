"""Views of a training photo: as it is, cropped, and as people send photos, which is darker, blurred, turned or framed.

Views are numbered, and each number is the same picture whenever it is asked for: they are computed once and kept.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Picture = NDArray[np.uint8]

WHOLE, CROPPED, SPOILT = 2, 4, 6
VIEWS = WHOLE + CROPPED + SPOILT
_TWO = 0.3
"""How often a spoilt view is spoilt in two ways."""


def view_of(picture: Picture, row: int, view: int) -> Picture:
    """View ``view`` (0 to ``VIEWS - 1``) of the RGB picture [H, W, 3] that is photo ``row``; odd ones are mirrored.

    The first two are whole, the next four crops in slightly other light, the last six crops that are spoilt.
    """
    image = Image.fromarray(picture)
    rng = np.random.default_rng([row, view])
    if view >= WHOLE:
        image = _cropped(image, rng)
    if view >= WHOLE + CROPPED:
        ways = rng.permutation(len(_WAYS))[: 2 if rng.random() < _TWO else 1]
        # In the order in which they happen to a photo: light, lens, turning, frame, coding.
        for way in sorted(ways):
            image = _WAYS[way](image, rng)
    return np.asarray(ImageOps.mirror(image) if view % 2 else image)


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    high, wide = (round(side * rng.uniform(0.7, 0.95)) for side in (height, width))
    top, left = rng.integers(0, height - high + 1), rng.integers(0, width - wide + 1)
    image = image.crop((int(left), int(top), int(left) + wide, int(top) + high))
    for light in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = light(image).enhance(rng.uniform(0.75, 1.25))
    return image


def _light(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Night, flat light, or too much of it; the sensor's noise grows with what is missing."""
    factor = float(np.exp(rng.uniform(np.log(0.15), np.log(1.8))))
    values = np.asarray(image, np.float32) * factor
    values += (255 - values) * rng.uniform(0, 0.4) * (rng.random() < 0.3)
    values += rng.standard_normal(values.shape) * rng.uniform(0, 14)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _colour(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Grey in half of all cases, or a lamp's tint."""
    if rng.random() < 0.5:
        return image.convert("L").convert("RGB")
    tinted = np.asarray(image, np.float32) * rng.uniform(0.65, 1.3, 3)
    return Image.fromarray(tinted.clip(0, 255).astype(np.uint8))


def _blur(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Out of focus: a deviation of up to a fortieth of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(min(image.size) * rng.uniform(0.003, 0.025)))


def _turned(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """On its side or its head where the tag that said so is lost, or held at a slant."""
    if rng.random() < 0.6:
        sides = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_180)
        return image.transpose(sides[rng.choice(3, p=(0.4, 0.4, 0.2))])
    turned = image.rotate(rng.uniform(-25, 25), Image.Resampling.BILINEAR)
    width, height = image.size
    return turned.crop((width // 10, height // 10, width - width // 10, height - height // 10))


def _framed(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Somewhere on a page or a screen, with bars and lines of writing around it."""
    width, height = image.size
    wide = round(width / rng.uniform(0.6, 1))
    high = max(round(wide * rng.uniform(0.6, 2)), round(height * 1.1))
    ground, ink = (tuple(int(level) for level in rng.integers(0, 256, 3)) for _ in range(2))
    if rng.random() < 0.7:
        ground, ink = ((250,) * 3, (40,) * 3) if rng.random() < 0.5 else ((12,) * 3, (220,) * 3)
    page = Image.new("RGB", (wide, high), ground)
    pen = ImageDraw.Draw(page)
    line = max(high // 50, 2)
    for y in range(line, high - line, 2 * line + int(rng.integers(0, 4 * line))):
        x = int(rng.integers(0, max(wide // 3, 1)))
        pen.rectangle((x, y, x + int(rng.integers(1, max(wide - x, 2))), y + line // 2), ink)
    page.paste(image, (int(rng.integers(0, wide - width + 1)), int(rng.integers(0, high - height + 1))))
    return page


def _coarse(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A thumbnail, or what is left after a messenger's JPEG."""
    side = int(rng.integers(48, 225))
    scale = min(1.0, side / min(image.size))
    small = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale), 1)))
    coded = io.BytesIO()
    small.save(coded, "JPEG", quality=int(rng.integers(10, 60)))
    return Image.open(coded).convert("RGB")


_WAYS = (_light, _colour, _blur, _turned, _framed, _coarse)
