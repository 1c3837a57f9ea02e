import io
import struct
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.media import MediaLimits, MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, decode_image
from tests.models.media.make import QUADRANTS, encoded, png, quadrants

LIMITS = MediaLimits()
UPRIGHT = quadrants()


def corners(pixels: NDArray[np.uint8]) -> list[list[int]]:
    """The colours well inside each quadrant."""
    height, width = pixels.shape[:2]
    return [pixels[y, x].tolist() for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def close(pixels: NDArray[np.uint8], expected: NDArray[np.uint8], by: int) -> bool:
    return pixels.shape == expected.shape and int(np.abs(pixels.astype(int) - expected).max()) <= by


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WebP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_tiff": True}),
    ],
)
def test_lossless_formats_give_their_pixels(kind: str, options: dict[str, object]) -> None:
    pixels = decode_image(encoded(UPRIGHT, kind, **options), LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert np.array_equal(pixels, UPRIGHT)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WebP", {"quality": 95}),
        ("AVIF", {}),
        ("HEIC", {}),
        ("HEIC", {"tile_size": 32}),
    ],
)
def test_lossy_formats_give_their_colours(kind: str, options: dict[str, object]) -> None:
    assert np.allclose(corners(decode_image(encoded(UPRIGHT, kind, **options), LIMITS)), QUADRANTS, atol=8)


def test_cmyk_jpegs_have_their_right_colours_with_and_without_adobes_mark() -> None:
    inks = Image.fromarray(UPRIGHT).convert("CMYK")
    adobe = encoded(inks, "JPEG", quality=95)
    assert np.allclose(corners(decode_image(adobe, LIMITS)), QUADRANTS, atol=8)

    # Without the mark inks are not stored inverted, so the same picture has the opposite numbers.
    opposite = encoded(Image.fromarray(255 - np.asarray(inks), "CMYK"), "JPEG", quality=95)
    start = opposite.index(b"\xff\xee")
    (length,) = struct.unpack(">H", opposite[start + 2 : start + 4])
    plain = opposite[:start] + opposite[start + 2 + length :]
    assert np.allclose(corners(decode_image(plain, LIMITS)), QUADRANTS, atol=8)


def test_gray_and_one_bit_images_become_rgb() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(decode_image(encoded(Image.fromarray(ramp), "PNG"), LIMITS), np.stack([ramp] * 3, axis=2))
    dots = np.tile(np.array([[True, False]]), (8, 4))
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {"compression": "group4"})):
        pixels = decode_image(encoded(Image.fromarray(dots), kind, **options), LIMITS)
        assert np.array_equal(pixels, np.stack([dots * np.uint8(255)] * 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65535, 48 * 64).astype(np.uint16).reshape(48, 64)
    pixels = decode_image(encoded(Image.fromarray(deep), kind), LIMITS)
    assert np.array_equal(pixels[..., 0], np.round(deep / 257))


def test_sixteen_bit_colour_and_white_is_zero() -> None:
    row = b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0, 0x4000, 0xFFFF)
    assert decode_image(png(2, 1, 16, 2, row), LIMITS).tolist() == [[[255, 128, 0], [0, 64, 255]]]
    deep = np.array([[0, 65535]], np.uint16)
    assert decode_image(encoded(Image.fromarray(deep), "TIFF", tiffinfo={262: 0}), LIMITS)[0, :, 0].tolist() == [255, 0]


def test_pixels_whose_white_is_undefined_are_refused() -> None:
    for mode in ("F", "I"):
        with pytest.raises(UnsupportedMedia, match="none is defined as white"):
            decode_image(encoded(Image.new(mode, (4, 4)), "TIFF"), LIMITS)


RED_GREEN = (b"PLTE", b"\xff\0\0\0\xff\0")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(2, 1, 8, 6, b"\0" + bytes([255, 0, 0, 128, 0, 0, 0, 0])), [[255, 127, 127], [255, 255, 255]]),
        (png(2, 1, 16, 6, b"\0" + struct.pack(">8H", 0, 0, 0, 0x8000, 0, 0, 0, 0)), [[127, 127, 127], [255, 255, 255]]),
        (png(2, 1, 8, 4, b"\0\0\xff\0\0"), [[0, 0, 0], [255, 255, 255]]),
        (png(2, 1, 8, 3, b"\0\0\1", RED_GREEN, (b"tRNS", b"\x80")), [[255, 127, 127], [0, 255, 0]]),
        (png(2, 1, 8, 0, b"\0\x12\x80", (b"tRNS", b"\0\x12")), [[255, 255, 255], [128, 128, 128]]),
        (png(2, 1, 16, 0, b"\0\x12\x34\x80\0", (b"tRNS", b"\x12\x34")), [[255, 255, 255], [128, 128, 128]]),
    ],
    ids=["rgba", "rgba 16", "gray alpha", "palette", "gray key", "gray 16 key"],
)
def test_transparency_shows_white(data: bytes, expected: list[list[int]]) -> None:
    assert np.allclose(decode_image(data, LIMITS)[0], expected, atol=1)


def lettered(colour: int, ground: int | None = None) -> bytes:
    """A bar of grey ``colour`` across a transparent picture, on a card of grey ``ground`` or on nothing."""
    pixels = np.zeros((40, 60, 4), np.uint8)
    if ground is not None:
        pixels[10:30, 10:50] = (ground, ground, ground, 255)
    pixels[16:24, 20:40] = (colour, colour, colour, 255)
    return encoded(Image.fromarray(pixels), "PNG")


def test_light_ink_on_nothing_is_laid_on_black_where_ink_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for strip in (1 << 20, 200):
        monkeypatch.setattr("models.media.image._STRIP", strip)
        for data, ground in ((lettered(250), 0), (lettered(20), 255), (lettered(20, ground=250), 255)):
            assert decode_image(data, LIMITS, ink=True)[0, 0].tolist() == [ground] * 3
            assert decode_image(data, LIMITS)[0, 0].tolist() == [255] * 3
    page = np.full((40, 60, 4), 255, np.uint8)
    page[:4, :4, 3] = 0  # a page with rounded corners is light, too
    assert decode_image(encoded(Image.fromarray(page), "PNG"), LIMITS, ink=True).min() == 255


@pytest.mark.parametrize("kind", ["GIF", "WebP", "PNG"])
def test_an_animation_gives_its_first_image(kind: str) -> None:
    later = Image.fromarray(UPRIGHT[::-1, ::-1].copy())
    data = encoded(UPRIGHT, kind, save_all=True, append_images=[later], duration=100, lossless=True)
    assert np.array_equal(decode_image(data, LIMITS), UPRIGHT)


STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(UPRIGHT, -1),
}
"""How a camera stores the same picture under each EXIF orientation."""


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WebP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
    ids=["jpeg", "png", "webp", "tiff", "tiff lzw"],
)
def test_the_image_is_upright(kind: str, options: dict[str, object], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(STORED[orientation]), kind, exif=exif, **options)
    assert close(decode_image(data, LIMITS), UPRIGHT, by=4)


@pytest.mark.parametrize("orientation", STORED)
def test_a_heic_photo_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(np.ascontiguousarray(STORED[orientation]), "HEIC", exif=exif.tobytes())
    assert np.allclose(corners(decode_image(data, LIMITS)), QUADRANTS, atol=8)


def test_a_deep_heic_photo_and_a_clear_one_have_their_colours() -> None:
    file = io.BytesIO()
    deep = (UPRIGHT.astype(np.uint16) * 257).tobytes()
    pillow_heif.from_bytes("RGB;16", (UPRIGHT.shape[1], UPRIGHT.shape[0]), deep).save(file)
    assert np.allclose(corners(decode_image(file.getvalue(), LIMITS)), QUADRANTS, atol=8)
    clear = Image.fromarray(UPRIGHT).convert("RGBA")
    clear.putalpha(0)
    assert decode_image(encoded(clear, "HEIC", quality=-1), LIMITS).min() > 247


@pytest.mark.parametrize(
    ("width", "height", "error", "says"),
    [(20_000, 20_000, MediaOutOfBounds, "20000 x 20000"), (64, 64, UndecodableMedia, "HEIC")],
    ids=["more than is read", "less than there is"],
)
def test_a_heic_photo_that_lies_about_its_size_is_not_decoded(
    width: int, height: int, error: type[Exception], says: str
) -> None:
    honest = encoded(quadrants(512, 512), "HEIC")
    at = honest.index(b"ispe") + 8
    with pytest.raises(error, match=says):
        decode_image(honest[:at] + struct.pack(">II", width, height) + honest[at + 8 :], LIMITS)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12"])
def test_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    assert close(decode_image(encoded(UPRIGHT, "JPEG", exif=exif, quality=95, subsampling=0), LIMITS), UPRIGHT, by=4)


def huge_gif(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    return b"GIF89a" + size + bytes(3) + b"," + bytes(4) + size + b"\0\2\1\0\0;"


def huge_webp(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body += encoded(UPRIGHT, "WebP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "data",
    [
        png(50_000, 50_000, 8, 2, bytes(1000)),
        png(9_000, 9_000, 8, 2, bytes(1000)),  # under Pillow's own bound, over ours
        huge_gif(65_535, 65_535),
        huge_gif(10_000, 10_000),
        huge_webp(16_000, 16_000),
    ],
    ids=["png", "small png", "gif", "small gif", "webp"],
)
def test_a_header_of_too_many_pixels_is_refused_before_any_is_made(data: bytes) -> None:
    start = time.perf_counter()
    with pytest.raises(MediaOutOfBounds) as caught:
        decode_image(data, LIMITS)
    assert time.perf_counter() - start < 0.1
    assert caught.value.limit == "64000000 pixels"


def test_a_side_has_its_own_limit() -> None:
    with pytest.raises(MediaOutOfBounds) as caught:
        decode_image(png(1, 65_536, 8, 0, bytes(2 * 65_536)), LIMITS)
    assert caught.value.limit == "65535 pixels a side"
    assert decode_image(png(1, 65_535, 8, 0, bytes(2 * 65_535)), LIMITS).shape == (65_535, 1, 3)


def test_pillows_own_bound_does_not_count() -> None:
    wide = replace(LIMITS, image_pixels=100_000_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UndecodableMedia):  # the pixels are missing; that there are many is no matter
            decode_image(png(10_000, 9_500, 1, 0, b""), wide)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WebP", "TIFF", "AVIF", "HEIC"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused(kind: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encoded(noise, kind)
    with pytest.raises(UndecodableMedia) as caught:
        decode_image(data[: int(kept * len(data))], LIMITS)
    assert kind in caught.value.detail
    assert caught.value.__cause__ is not None


def test_images_are_decoded_side_by_side() -> None:
    wanted = [np.full((200, 200, 3), level, np.uint8) for level in range(16)]
    files = [encoded(pixels, "PNG") for pixels in wanted]
    found: dict[int, NDArray[np.uint8]] = {}

    def work(first: int) -> None:
        for index in range(first, len(files), 4):
            found[index] = decode_image(files[index], LIMITS)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(found[index], pixels) for index, pixels in enumerate(wanted))


def test_only_the_sniffed_format_is_tried() -> None:
    disguised = io.BytesIO()
    Image.fromarray(UPRIGHT).save(disguised, "PPM")
    with pytest.raises(UndecodableMedia):
        decode_image(b"\xff\xd8\xff" + disguised.getvalue(), LIMITS)
    with pytest.raises(UnsupportedMedia):
        decode_image(b"%!PS-Adobe-3.0 EPSF-3.0\n", LIMITS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "L", "1"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_large_image_is_converted_strip_by_strip_to_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch, mode: str, orientation: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (57, 31, 4)).astype(np.uint8)
    image = Image.fromarray(pixels, "RGBA")
    image = image.convert("RGB").convert("P") if mode == "P" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif, **({"transparency": 3} if mode == "P" else {}))
    whole = decode_image(file.getvalue(), LIMITS)
    assert whole.flags.c_contiguous
    monkeypatch.setattr("models.media.image._STRIP", 100)
    assert np.array_equal(decode_image(file.getvalue(), LIMITS), whole)
