"""Printed digits, of which MNIST has none, in typefaces that come with matplotlib."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from models.features import InkFeatures
from models.training.recipes.waveforms import uniform

FACES = ("DejaVuSans", "DejaVuSansMono", "STIXGeneral", "cmb10", "cmr10", "cmti10")
"""Families that are learned: those files whose names are one of these, or one with a style after it."""
UNSEEN = ("DejaVuSerif", "cmss10", "cmtt10")
"""Families that are only asked for: with serifs, without, and a typewriter's."""
STYLES = ("", "Bold", "Oblique", "BoldOblique", "Italic", "BoldItalic", "Bol", "BolIta")
COUNT = 20
"""Pictures of each digit in each face."""
SIDE = 160
"""Of the square on which a digit is printed, in pixels, before it is found there."""


def printed(families: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Pictures uint8 [N, 28, 28] of all digits, found and centred as in what is served, and the digits int64 [N].

    They are set in sizes of 0.4 to 0.7 of the square and turned by up to 8 degrees: always the same pictures.
    """
    features = InkFeatures(size=28)
    pictures, digits = [], []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for file in files(families):
            for digit in list(range(10)) * COUNT:
                pictures.append(features.find(_set(digit, file)).pixels[0])
                digits.append(digit)
    return torch.stack(pictures), torch.tensor(digits)


def files(families: tuple[str, ...]) -> list[Path]:
    """The faces of some families, sorted by name."""
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    names = {family + join + style for family in families for join in ("", "-") for style in STYLES}
    return sorted(file for file in folder.glob("*.ttf") if file.stem in names)


def _set(digit: int, file: Path) -> NDArray[np.uint8]:
    square = Image.new("L", (SIDE, SIDE))
    face = ImageFont.truetype(str(file), round(uniform(0.4, 0.7) * SIDE))
    ImageDraw.Draw(square).text((SIDE / 2, SIDE / 2), str(digit), 255, face, anchor="mm")
    turned = square.rotate(uniform(-8, 8), Image.Resampling.BICUBIC)
    return np.asarray(turned.convert("RGB"))
