"""What a JPEG consists of: how much there is to read, and whether its end is there."""

import re

from PIL import Image

from models.media.errors import MediaOutOfBounds

_SCANS = 100
"""Scans in a JPEG. A progressive photo has about ten; each costs a walk over all pixels and may take 20 bytes."""

_SEGMENTS = 10_000
"""Scans, tables and metadata in a JPEG: of the largest metadata, 64 kB take one. Pillow reads them one by one."""

_SEGMENT = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])(.{0,2})", re.DOTALL)
"""The end of a JPEG's image, or a marker with the length of what belongs to it. Among pixels neither occurs."""

_SCAN, _END = b"\xda", b"\xd9"

_MORE = b"".join(100 * b"\xaa\x99" + bytes((0xFF, restart)) for restart in range(0xD0, 0xD8))
"""What could be pixels, unlike the zeros that a decoder makes up, and a restart of every number."""


def check_segments(data: bytes) -> bool:
    """Whether the end of a JPEG's image is marked; refuses one that takes too long to read.

    What is no part of it does not count: previews in its metadata, and what a phone appends to it, such as a clip.

    Raises:
        MediaOutOfBounds: there are too many parts.
    """
    counts, at = {"scans": 0, "segments": 0}, 2
    while (found := _SEGMENT.search(data, at)) is not None and found[1] != _END:
        counts["scans"] += found[1] == _SCAN
        counts["segments"] += 1
        for name, most in (("scans", _SCANS), ("segments", _SEGMENTS)):
            if counts[name] > most:
                detail = f"The image is a JPEG with too many {name}."
                raise MediaOutOfBounds("image", detail, "Save it as an ordinary JPEG.", f"{most} {name}")
        # libjpeg, too, goes on behind a length that does not even count itself.
        at = found.end(1) + max(int.from_bytes(found[2], "big"), 2)
    return found is not None


def endings(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG whose end is not marked, with its mark, and with more before it.

    Where pixels are missing a decoder makes them up from what follows, without a word; so it is whole if both look the
    same.
    """
    whole = data.rstrip(b"\xff")
    return whole + b"\xff" + _END, whole + _MORE + b"\xff" + _END


def check_same(image: Image.Image, other: Image.Image) -> None:
    """Refuses what two `endings` made of one image if they differ.

    Raises:
        OSError: they do.
    """
    if image.tobytes() != other.tobytes():
        raise OSError("the end of the image is missing")
