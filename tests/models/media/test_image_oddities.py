"""Image files that programs write in ways of their own."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from models.media import MediaLimits, UndecodableMedia, UnsupportedMedia, decode_image
from tests.models.media.make import encoded, png, quadrants

LIMITS = MediaLimits()


def bmp(pixels: bytes, alpha: int, header: int, red: int = 0xFF0000) -> bytes:
    """A BMP of one row of 32-bit pixels with masks, as the Windows clipboard gives."""
    masks = struct.pack("<4I", red, 0xFF00, 0xFF, alpha)
    start = 14 + header
    info = struct.pack("<IiiHHIIiiII", header, len(pixels) // 4, 1, 1, 32, 3, len(pixels), 0, 0, 0, 0) + masks
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info.ljust(header, b"\0") + pixels


@pytest.mark.parametrize("header", [56, 124])
def test_alpha_that_is_nowhere_set_is_none(header: int) -> None:
    unset = bmp(bytes([0, 0, 255, 0, 255, 0, 0, 0]), 0xFF000000, header)
    assert decode_image(unset, LIMITS).tolist() == [[[255, 0, 0], [0, 0, 255]]]
    set_once = bmp(bytes([0, 0, 255, 255, 255, 0, 0, 0]), 0xFF000000, header)
    assert decode_image(set_once, LIMITS).tolist() == [[[255, 0, 0], [255, 255, 255]]]


def test_a_bmp_of_unknown_masks_is_not_called_broken() -> None:
    with pytest.raises(UnsupportedMedia, match="a BMP of a kind that is not read"):
        decode_image(bmp(bytes(8), 0, 124, red=0x3FF00000), LIMITS)


def test_a_jpeg_of_twelve_bits_is_not_called_broken() -> None:
    whole = encoded(quadrants(), "JPEG")
    at = whole.index(b"\xff\xc0") + 4
    with pytest.raises(UnsupportedMedia, match="8 bits a channel"):
        decode_image(whole[:at] + b"\x0c" + whole[at + 1 :], LIMITS)


@pytest.mark.parametrize(("kind", "head"), [(b"iCCP", b"icc\0\0"), (b"zTXt", b"note\0\0"), (b"iTXt", b"n\0\1\0\0\0")])
def test_long_metadata_of_a_png_is_no_damage(kind: bytes, head: bytes) -> None:
    chunk = (kind, head + zlib.compress(bytes(5 << 20)))
    assert decode_image(png(1, 1, 8, 0, b"\0\x80", chunk), LIMITS).tolist() == [[[128, 128, 128]]]
    bomb = (kind, head + zlib.compress(bytes(17 << 20)))
    with pytest.raises(UnsupportedMedia, match="an ordinary JPEG or PNG"):
        decode_image(png(1, 1, 8, 0, b"\0\x80", bomb), LIMITS)


def test_around_the_first_frame_of_a_gif_is_nothing() -> None:
    file = bytearray(encoded(quadrants(), "GIF"))
    file[6:10] = struct.pack("<HH", 100, 80)
    place = file.index(b",\0\0\0\0@\0") + 1
    file[place : place + 4] = struct.pack("<HH", 20, 10)
    pixels = decode_image(bytes(file), LIMITS)
    assert np.array_equal(pixels[10:58, 20:84], quadrants())
    pixels[10:58, 20:84] = 255
    assert pixels.min() == 255


@pytest.mark.parametrize(
    "chunk",
    [(b"tEXt", b"a\0b", bytes(4)), (b"iCCP", b"icc\0\0", bytes(4)), (b"gAMA", b"", None), (b"pHYs", b"\0", None)],
    ids=lambda chunk: chunk[0].decode(),
)
def test_damaged_notes_of_a_png_do_not_matter(chunk: tuple[bytes, bytes, bytes | None]) -> None:
    name, body, check = chunk
    whole = encoded(quadrants(), "PNG")
    check = struct.pack(">I", zlib.crc32(name + body)) if check is None else check
    note = struct.pack(">I", len(body)) + name + body + check
    assert np.array_equal(decode_image(whole[:33] + note + whole[33:], LIMITS), quadrants())
    with pytest.raises(UndecodableMedia):
        decode_image(whole[:29] + bytes(4) + note + whole[33:], LIMITS)


@pytest.mark.parametrize(
    ("mark", "body"),
    [(0xE2, b"ICC_PROFILE\0"), (0xED, b"Photoshop 3.0\x008BIM\4\4"), (0xEE, b"Adobe"), (0xE0, b"JFIF\0")],
)
def test_damaged_notes_of_a_jpeg_do_not_matter(mark: int, body: bytes) -> None:
    whole = encoded(quadrants(), "JPEG")
    note = bytes((0xFF, mark)) + struct.pack(">H", len(body) + 2) + body
    assert np.array_equal(decode_image(whole[:2] + note + whole[2:], LIMITS), decode_image(whole, LIMITS))
    inks = encoded(Image.fromarray(quadrants()).convert("CMYK"), "JPEG")
    assert np.array_equal(decode_image(inks[:2] + note + inks[2:], LIMITS), decode_image(inks, LIMITS))
