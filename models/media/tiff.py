"""What Pillow leaves to its callers in a TIFF: which of its images is given, how its samples lie, and what is white."""

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from models.media.errors import UnsupportedMedia

_SUBFILE, _WIDTH, _HEIGHT, _DEPTH, _PLANES, _GREATEST = 254, 256, 257, 258, 284, 281
_SUBFILES, _DNG = 330, 50706


def prepare(image: TiffImageFile) -> None:
    """Has an image that is not loaded yet read rightly.

    Raises:
        UnsupportedMedia: it is only the preview of a raw photo, or coded in a way that libtiff was built without.
    """
    tags = image.tag_v2
    # Cameras put a small preview first (bit 0), and what the sensor saw behind it.
    if _DNG in tags or (_SUBFILES in tags and _number(image, _SUBFILE) & 1):
        raise UnsupportedMedia(
            "image", "The image was recognized by its content as a raw camera photo.", "Convert it to JPEG."
        )
    if image.info["compression"] == "webp":
        raise UnsupportedMedia("image", "The image is a TIFF that is compressed as WebP.", "Save it as JPEG or PNG.")
    if image.info["compression"] == "raw" and _number(image, _PLANES) == 2 and _number(image, _DEPTH) == 16:
        # Pillow's own reader takes each byte of a plane for a pixel; libtiff's, which it has for all else, does not.
        size = (_number(image, _WIDTH), _number(image, _HEIGHT))
        args = (image.mode.partition(";")[0] + ";16N", False, tags.offset)
        image.tile = [image.tile[0]._replace(codec_name="libtiff", extents=(0, 0, *size), offset=0, args=args)]
        image.use_load_libtiff = True


def white(image: TiffImageFile, gray: NDArray[np.uint16]) -> int:
    """The number of the lightest gray that the image can have, whose pixels [H, W] are ``gray``."""
    greatest = _number(image, _GREATEST)
    # It is a mere statistic where it is no full range of bits, and wrong where there is more.
    if greatest >= 255 and greatest & (greatest + 1) == 0 and gray.max() <= greatest:
        return greatest
    return 4095 if _number(image, _DEPTH) == 12 else 65535


def _number(image: TiffImageFile, tag: int) -> int:
    """A tag's value, or the first of several; 0 where it has none that is a number."""
    value = image.tag_v2.get(tag, 0)
    if isinstance(value, tuple):
        value = value[0] if value else 0
    return value if isinstance(value, int) else 0
