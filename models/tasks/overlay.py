"""Attention drawn over pictures: one tile a word, bright where the decoder looked."""

import io
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_TILE, _LABEL, _COLUMNS, _GAP = 224, 30, 6, 6
_PAPER, _INK = (255, 255, 255), (20, 20, 20)
_DARKEST = 0.25
CHINESE = Path(__file__).parent / "fonts" / "DroidSansFallback-GB2312.ttf"
"""The font of what is written in Chinese on a picture."""


def draw_attention(
    pictures: list[NDArray[np.uint8]], tokens: list[tuple[str, NDArray[np.float64]]], *, title: str
) -> bytes:
    """PNG of a tile for each token; a tile shows the picture (frame) that the token attended to most.

    Args:
        pictures: RGB pictures [H, W, 3], the frames that the attention is over.
        tokens: each with its weights [T, h, w].
    """
    columns = min(max(len(tokens), 1), _COLUMNS)
    rows = -(-max(len(tokens), 1) // columns)
    width = columns * (_TILE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, rows * (_TILE + _LABEL + _GAP) + _LABEL + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _write(pen, (_GAP, 4), title)
    for index, (token, weights) in enumerate(tokens):
        frame = int(weights.sum((1, 2)).argmax())
        left = _GAP + (index % columns) * (_TILE + _GAP)
        top = _LABEL + _GAP + (index // columns) * (_TILE + _LABEL + _GAP)
        sheet.paste(_lit(pictures[frame], weights[frame]), (left, top))
        _write(pen, (left, top + _TILE + 4), f"{index + 1}  {token}")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _lit(picture: NDArray[np.uint8], weights: NDArray[np.float64]) -> Image.Image:
    tile = np.asarray(Image.fromarray(picture).resize((_TILE, _TILE), Image.Resampling.BICUBIC), dtype=np.float32)
    share = (weights / max(float(weights.max()), 1e-9)).astype(np.float32)
    light = np.asarray(Image.fromarray(share).resize((_TILE, _TILE), Image.Resampling.BICUBIC)).clip(0, 1)
    return Image.fromarray((tile * (_DARKEST + (1 - _DARKEST) * light[..., None])).astype(np.uint8))


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str) -> None:
    # Neither font has the other's letters, so a mixed text is drawn piece by piece.
    left, top = at
    for latin, piece in groupby(text, str.isascii):
        font = _font(latin=latin)
        written = "".join(piece)
        pen.text((left, top), written, fill=_INK, font=font)
        left += round(font.getlength(written))


@cache
def _font(*, latin: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(16) if latin else ImageFont.truetype(CHINESE, 16)
