"""Image bytes to pixels.

Colours are sRGB's, to which those of an ICC profile or of high dynamic range are taken on the reduced image. Pillow's
readers are called one by one, never through ``Image.open``, which would try formats nobody asked for.
"""

import re
import warnings
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, PngImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pillow_heif import HeifImageFile
from pillow_heif import options as heif

from models.media.bare import bare
from models.media.colour import colours_of, of_inks, to_srgb
from models.media.errors import MediaOutOfBounds, UnsupportedMedia, shielded
from models.media.jpeg import check_same, check_segments, endings
from models.media.limits import MediaLimits
from models.media.room import ROOM, PixelRoom
from models.media.sniff import AVIF, BMP, GIF, HEIC, JPEG, PNG, TIFF, WEBP, Format, recognize
from models.media.tiff import prepare, white

_READERS: dict[Format, type[ImageFile]] = {
    JPEG: JpegImageFile,
    PNG: PngImagePlugin.PngImageFile,
    WEBP: WebPImageFile,
    GIF: GifImageFile,
    BMP: BmpImageFile,
    TIFF: TiffImageFile,
    AVIF: AvifImageFile,
    HEIC: HeifImageFile,
}

_LONGEST = 65_535
"""Pixels on a side. JPEG and GIF end there too, and libtiff prints a line to stderr for each damaged row of a fax."""

_UPRIGHT: dict[int, tuple[bool, int, int]] = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
"""What turns an image of each EXIF orientation upright: whether rows become columns, then the order of each."""

_STRIP = 1 << 20
"""Pixels that are converted at a time: each conversion keeps several copies of what it is given."""

_DARK = 0.05
"""The least share of what is opaque that is dark where there is something to see on white."""

_UNREAD = re.compile("cannot handle|unknown pixel mode|Unsupported BMP|not yet supported|MAX_TEXT_")
"""What Pillow says of a file that may be whole, but whose depth, colours, compression or length of notes it refuses."""

_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106

# Pillow warns of odd metadata, and of sizes that are checked here anyway. A filter set once, unlike one around each
# call, is safe with threads.
warnings.filterwarnings("ignore", module=r"PIL\.")

# A colour profile or the notes of a program may well be longer than Pillow's 1 MiB. All texts together stay bounded.
PngImagePlugin.MAX_TEXT_CHUNK = 16 * 2**20

# Of a HEIC file only its photo is wanted, on the thread that asks for it: others are decoded beside it. What libheif
# allocates for it is bounded by the size that the file's header gives, which is checked here.
heif.THUMBNAILS = heif.DEPTH_IMAGES = heif.AUX_IMAGES = False
heif.DECODE_THREADS = 1


def decode_image(
    data: bytes, limits: MediaLimits, *, target: int | None = None, ink: bool = False, room: PixelRoom = ROOM
) -> NDArray[np.uint8]:
    """The first image in ``data`` as uint8 sRGB [H, W, 3], upright, transparency on white.

    With ``ink`` light writing on nothing is laid on black, as on white it could not be seen.

    With ``target`` it is given at 1/2, 1/4 or 1/8 of its size, as long as its shorter side keeps at least ``target``
    pixels: a JPEG is decoded so, several times faster, and of others each square of pixels is averaged. The limit on
    pixels holds for the full size. It waits for its place in ``room``.

    Raises:
        MediaError: too many bytes or pixels, not an image format that is read, truncated or corrupt.
    """
    found = recognize(data, "image", limits.image_bytes)
    with shielded("image", found.name):
        ended = found is not JPEG or check_segments(data)
        first, *others = [data] if ended else endings(data)
        image = _opened(first, found, limits)
        if max(image.size) > _LONGEST:
            raise _too_large(f"{image.width} x {image.height}", f"{_LONGEST} pixels a side")
        if image.width * image.height > limits.image_pixels:
            raise _too_large(f"{image.width} x {image.height}", f"{limits.image_pixels} pixels")
        if isinstance(image, TiffImageFile):
            prepare(image)
        factor = _reduced(image, target)
        # Beside another ending there are both as pixels and as bytes.
        with room.hold(image.width * image.height * (1 if ended else 4)):
            image.load()
            for other in (_opened(each, found, limits) for each in others):
                _reduced(other, target)
                check_same(image, other)
            orientation = _orientation(image)
            return _turned(_rgb(image, ink, factor), orientation)


def _opened(data: bytes, found: Format, limits: MediaLimits) -> ImageFile:
    """The image, of which no more than the header has been read."""
    try:
        return _READERS[found](BytesIO(data))
    except Image.DecompressionBombError as error:  # some readers allocate, and so check, before they return
        raise _too_large("beyond reading", f"{limits.image_pixels} pixels") from error
    except (OSError, SyntaxError, ValueError) as error:
        # The only keys that its reader does not find are compressions, which have numbers.
        if _UNREAD.search(str(error)) or (found is TIFF and isinstance(error.__cause__, KeyError)):
            detail = f"The image is a {found.name} of a kind that is not read."
            remedy = "Save it as an ordinary JPEG or PNG, of 8 bits a channel."
            raise UnsupportedMedia("image", detail, remedy) from error
        if len(pixels := bare(data, found)) < len(data):
            return _opened(pixels, found, limits)
        raise


def _too_large(size: str, limit: str) -> MediaOutOfBounds:
    detail = f"The image's size is {size}, and at most {limit} are accepted."
    return MediaOutOfBounds("image", detail, "Scale it down.", limit)


def _reduced(image: ImageFile, target: int | None) -> int:
    """Has a JPEG decoded no larger than ``target`` asks; by how much any other is to be reduced for that."""
    if target is None:
        return 1
    if not isinstance(image, JpegImageFile):
        return _factor(image, target)
    image.draft(image.mode, (target, target))
    return 1


def _factor(image: Image.Image, target: int) -> int:
    """By how much, a power of two as in a JPEG, an image may be reduced and keep ``target`` pixels a side."""
    most = min(image.size) // max(target, 1)
    return next((factor for factor in (8, 4, 2) if factor <= most), 1)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or where it cannot be read: pixels matter more."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 (like pixels, damaged metadata raises anything)
        return 1
    return value if isinstance(value, int) else 1


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Pixels [H, W, 3] of an EXIF orientation, upright."""
    if (upright := _UPRIGHT.get(orientation)) is None:
        return pixels
    flipped, rows, columns = upright
    turned = pixels.swapaxes(0, 1) if flipped else pixels
    return np.ascontiguousarray(turned[::rows, ::columns])


def _rgb(image: ImageFile, ink: bool, factor: int) -> NDArray[np.uint8]:
    """The pixels as RGB [H, W, 3], whatever mode they were stored in, at 1 / ``factor`` of the size, rounded up."""
    plain = _plain(image)
    ground = "black" if ink and plain.has_transparency_data and _light(plain) else "white"
    pixels = np.empty((-(-plain.height // factor), -(-plain.width // factor), 3), np.uint8)
    colours = colours_of(image)
    top = 0
    for strip in _strips(plain, factor):
        # What is transparent has no colour that could be averaged before there is a ground.
        shown = strip if of_inks(colours) else _on(ground, strip)
        part = to_srgb(shown if factor == 1 else shown.reduce(factor), colours)
        pixels[top : top + len(part)] = part
        top += len(part)
    return pixels


def _strips(image: Image.Image, factor: int = 1) -> Iterator[Image.Image]:
    """An image's parts, from one side to the other, of whole ``factor`` rows but for the last."""
    height = max(1, _STRIP // image.width // factor) * factor
    for top in range(0, image.height, height):
        yield image.crop((0, top, image.width, min(top + height, image.height)))


def _light(image: Image.Image) -> bool:
    """Whether more than half of the image is transparent, and hardly anything of the rest is dark."""
    dark = opaque = 0
    for strip in _strips(image):
        pixels = strip.convert("RGBA")
        solid = np.asarray(pixels.getchannel("A")) > 127
        dark += int((solid & (np.asarray(pixels.convert("L")) < 128)).sum())
        opaque += int(solid.sum())
    return 0 < opaque < 0.5 * image.width * image.height and dark < _DARK * opaque


def _on(ground: str, image: Image.Image) -> Image.Image:
    """An image as RGB, in which the colour ``ground`` stands where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    pixels = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", pixels.size, ground), pixels).convert("RGB")


def _plain(image: ImageFile) -> Image.Image:
    """An image in a mode that Pillow converts as it should."""
    plain: Image.Image = image
    if image.mode.startswith("I;16"):
        plain = _eight_bit(image)
    elif image.mode in ("I", "F"):
        raise UnsupportedMedia(
            "image",
            "The image's pixels are signed, 32-bit or floating-point numbers, of which none is defined as white.",
            "Save it with 8 or 16 unsigned bits a channel.",
        )
    elif image.mode == "RGBA" and isinstance(image, BmpImageFile) and image.getchannel("A").getextrema() == (0, 0):
        image.putalpha(255)  # screenshots say that they have alpha, and leave it 0
    elif isinstance(image, GifImageFile) and image.dispose_extent not in (None, (0, 0, *image.size)):
        # Around a first frame that is smaller than all there is nothing; Pillow has some colour there.
        plain = Image.new("RGBA", image.size)
        plain.paste(image.convert("RGBA").crop(image.dispose_extent), image.dispose_extent)
    elif image.mode == "CMYK" and isinstance(image, JpegImageFile) and "adobe" not in image.info:
        plain = ImageChops.invert(image)  # Pillow takes every CMYK JPEG for Adobe's, whose inks are inverted
    return plain


def _eight_bit(image: Image.Image) -> Image.Image:
    """Deep gray scaled to 8 bits (Pillow's own conversion clips), with its transparent value if it has one."""
    deep = np.asarray(image)
    lightest = white(image, deep) if isinstance(image, TiffImageFile) else 65535
    scaled = np.empty(deep.shape, np.uint8)
    for deep_row, row in zip(deep, scaled, strict=True):
        row[:] = (deep_row.astype(np.uint32) * 255 + lightest // 2) // lightest
    gray = Image.fromarray(scaled)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0:
        gray = ImageChops.invert(gray)  # 0 is white here, which Pillow heeds at 8 bits but not at 16
    clear = image.info.get("transparency")
    if clear is not None:
        gray.putalpha(Image.fromarray(np.where(deep == clear, 0, 255).astype(np.uint8)))
    return gray
