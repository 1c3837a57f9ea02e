"""Colours of an embedded ICC profile, or of high dynamic range, to sRGB's, of the photos that networks learn from."""

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageCms import Flags, ImageCmsProfile, ImageCmsTransform, Intent, createProfile

from models.media.hdr import Signal, hdr_signal, tone_mapped

Colours: TypeAlias = ImageCmsTransform | Signal
"""What takes an image's numbers to sRGB's."""

_LARGEST = 4 * 2**20
"""Bytes of a profile that is looked at. Those of printing presses have up to three million."""

_KEPT = 8
"""Profiles that are remembered: most photos have one of a few cameras'."""

_SAME = 2
"""Levels, of 255, by which colours may differ and be the same."""

_LIGHT, _DARK = 200, 80
"""What white is at least, and black at most, in any profile that makes sense."""

_STORED: Mapping[str, str] = {
    **dict.fromkeys(("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "YCbCr"), "RGB"),
    **dict.fromkeys(("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"), "L"),
    "CMYK": "CMYK",
}
"""Pillow's modes by that of the numbers that a profile is of."""

_SPACES: Mapping[str, str] = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_CLASSES = frozenset(("mntr", "scnr", "prtr", "spac"))
"""Profiles of screens, cameras, presses and whole spaces; others are of no picture."""


def colours_of(image: Image.Image) -> Colours | None:
    """What an image's numbers mean.

    None where they are to be taken as sRGB's: it says nothing of them or just this, or its profile is of other numbers
    than it is made of, broken, absurd or huge.
    """
    stated = image.info.get("nclx_profile") or {}
    hdr = hdr_signal(stated.get("transfer_characteristics", 0), stated.get("color_primaries", 0))
    profile, mode = image.info.get("icc_profile"), _STORED.get(image.mode)
    if hdr is not None and mode == "RGB":
        return hdr
    if not isinstance(profile, bytes) or mode is None or not 0 < len(profile) <= _LARGEST:
        return None
    return _transform(profile, mode)


def of_inks(colours: Colours | None) -> bool:
    """Whether it takes the four inks of print to say them."""
    return isinstance(colours, ImageCmsTransform) and colours.input_mode == "CMYK"


def to_srgb(image: Image.Image, colours: Colours | None) -> NDArray[np.uint8]:
    """An image, RGB or, where its colours are `of_inks`, CMYK, as RGB [H, W, 3] in sRGB's."""
    if isinstance(colours, Signal):
        # Eight bits are what the reader leaves of ten.
        return tone_mapped(np.asarray(image).astype(np.uint16) * 257, colours)
    return np.asarray(image if colours is None else _converted(image, colours))


def _converted(image: Image.Image, transform: ImageCmsTransform) -> Image.Image:
    return transform.apply(image.getchannel(0) if transform.input_mode == "L" else image)


@lru_cache(_KEPT)
def _transform(profile: bytes, mode: str) -> ImageCmsTransform | None:
    try:
        opened = ImageCmsProfile(BytesIO(profile))
        if opened.profile.xcolor_space != _SPACES[mode] or opened.profile.device_class not in _CLASSES:
            return None
        # The lightest that a file can have becomes white and the darkest black, as in any viewer.
        intent, flags = Intent.RELATIVE_COLORIMETRIC, Flags.BLACKPOINTCOMPENSATION
        transform = ImageCmsTransform(opened, ImageCmsProfile(createProfile("sRGB")), mode, "RGB", intent, flags=flags)
        return transform if _matters(transform, mode) else None
    except Exception:  # noqa: BLE001 (on a damaged profile LittleCMS and Pillow raise several things; pixels matter more)
        return None


def _matters(transform: ImageCmsTransform, mode: str) -> bool:
    """Whether a transform changes anything, and leaves black dark, white light, and in order what lies between."""
    ramp = np.linspace(0, 255, 18).round().astype(np.uint8)
    if mode == "CMYK":
        inks = np.zeros((1, len(ramp), 4), np.uint8)
        inks[..., 3] = 255 - ramp
        return _ordered(_applied(transform, inks, mode))
    grays = _applied(transform, np.repeat(ramp[None, :, None], 3, axis=2), "RGB")
    cube = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"), axis=-1).reshape(len(ramp), -1, 3)
    colours = cube if mode == "RGB" else np.repeat(ramp[None, :, None], 3, axis=2)
    changed = int(np.abs(_applied(transform, colours, "RGB") - colours.astype(np.int16)).max())
    return changed > _SAME and _ordered(grays)


def _ordered(grays: NDArray[np.int16]) -> bool:
    """Whether colours [1, N, 3] of a ramp from black to white are one."""
    rising = bool((np.diff(grays.sum(-1)) >= -3 * _SAME).all())
    return rising and int(grays[0, 0].max()) <= _DARK and int(grays[0, -1].min()) >= _LIGHT


def _applied(transform: ImageCmsTransform, colours: NDArray[np.uint8], mode: str) -> NDArray[np.int16]:
    return np.asarray(_converted(Image.fromarray(colours, mode), transform)).astype(np.int16)
