"""TIFFs that Pillow does not write: tags and samples laid by hand."""

import struct

import numpy as np
import pytest

from models.media import MediaLimits, UndecodableMedia, UnsupportedMedia, decode_image
from tests.models.media.make import quadrants

LIMITS = MediaLimits()

DEPTH, COMPRESSION, PHOTOMETRIC, SAMPLES, ROWS, PLANES, GREATEST = 258, 259, 262, 277, 278, 284, 281


def tiff(width: int, height: int, tags: dict[int, list[int]], *strips: bytes, order: str = "<") -> bytes:
    """A TIFF of one image, whose tags are those given and those that say where its strips are."""
    at, places = 8, []
    for strip in strips:
        places.append(at)
        at += len(strip)
    sizes = [len(strip) for strip in strips]
    entries = {254: [0], 256: [width], 257: [height], 273: places, ROWS: [height], 279: sizes, **tags}
    more_at = at + 2 + 12 * len(entries) + 4
    listed, more = b"", b""
    for tag in sorted(entries):
        body = struct.pack(f"{order}{len(entries[tag])}I", *entries[tag])
        if len(body) > 4:
            more += body
            body = struct.pack(f"{order}I", more_at + len(more) - len(body))
        listed += struct.pack(f"{order}HHI", tag, 4, len(entries[tag])) + body
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + b"".join(strips) + struct.pack(f"{order}H", len(entries)) + listed + bytes(4) + more


def test_twelve_bits_reach_white() -> None:
    tags = {DEPTH: [12], COMPRESSION: [1], PHOTOMETRIC: [1], SAMPLES: [1]}
    # Two pixels in three bytes: black and white, then 0x800 and 0x008.
    data = tiff(2, 2, tags, bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x08]))
    assert decode_image(data, LIMITS)[..., 0].tolist() == [[0, 255], [128, 0]]


@pytest.mark.parametrize(
    ("greatest", "gray"),
    [([4095], [0, 128, 255]), ([4000], [0, 8, 16]), ([255], [0, 8, 16]), ([0], [0, 8, 16]), (None, [0, 8, 16])],
    ids=["twelve bits", "a statistic", "less than there is", "none", "absent"],
)
def test_twelve_bits_in_sixteen_reach_white_where_the_file_says_so(greatest: list[int] | None, gray: list[int]) -> None:
    tags = {DEPTH: [16], COMPRESSION: [1], PHOTOMETRIC: [1], SAMPLES: [1]} | ({GREATEST: greatest} if greatest else {})
    data = tiff(3, 1, tags, struct.pack("<3H", 0, 2048, 4095))
    assert decode_image(data, LIMITS)[0, :, 0].tolist() == gray


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("rows", [48, 16])
@pytest.mark.parametrize(
    ("photometric", "channels"), [(1, 1), (2, 3), (2, 4), (5, 4)], ids=["gray", "rgb", "rgba", "cmyk"]
)
def test_planes_of_sixteen_bits_give_their_colours(photometric: int, channels: int, rows: int, order: str) -> None:
    picture = quadrants() if channels > 1 else np.repeat(quadrants()[..., :1], 3, axis=2)
    planes = np.full((channels, *picture.shape[:2]), 0 if photometric == 5 else 65535, np.uint16)
    planes[:3] = np.moveaxis(picture, 2, 0)[:channels].astype(np.uint16) * 257
    if photometric == 5:
        planes[:3] = 65535 - planes[:3]
    stored = planes.astype(f"{order}u2")
    strips = [plane[top : top + rows].tobytes() for plane in stored for top in range(0, 48, rows)]
    tags = {DEPTH: [16] * channels, COMPRESSION: [1], PHOTOMETRIC: [photometric], SAMPLES: [channels]}
    tags |= {PLANES: [2], ROWS: [rows]} | ({338: [2]} if (photometric, channels) == (2, 4) else {})
    assert np.array_equal(decode_image(tiff(64, 48, tags, *strips, order=order), LIMITS), picture)


RGB = {DEPTH: [8, 8, 8], COMPRESSION: [1], PHOTOMETRIC: [2], SAMPLES: [3]}


@pytest.mark.parametrize("tags", [{50706: [0x01040000]}, {254: [1], 330: [8]}], ids=["dng", "preview first"])
def test_a_raw_photo_is_not_answered_from_its_preview(tags: dict[int, list[int]]) -> None:
    with pytest.raises(UnsupportedMedia, match="raw camera photo"):
        decode_image(tiff(2, 2, RGB | tags, bytes(12)), LIMITS)


def test_a_photo_with_a_preview_behind_it_is_read() -> None:
    assert decode_image(tiff(2, 2, RGB | {330: [8]}, bytes(12)), LIMITS).shape == (2, 2, 3)


@pytest.mark.parametrize(
    "tags",
    [{COMPRESSION: [34712]}, {COMPRESSION: [50001]}, {DEPTH: [32, 32, 32]}, {0xBC01: [1]}],
    ids=["jpeg 2000", "webp", "32 bits", "jpeg xr"],
)
def test_a_whole_file_of_an_unknown_kind_is_not_called_broken(tags: dict[int, list[int]]) -> None:
    with pytest.raises(UnsupportedMedia, match="JPEG or PNG"):
        decode_image(tiff(2, 2, RGB | tags, bytes(48)), LIMITS)


def test_a_broken_file_is_called_broken() -> None:
    with pytest.raises(UndecodableMedia):
        decode_image(tiff(20, 20, RGB, bytes(12)), LIMITS)
