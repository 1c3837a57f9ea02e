"""Pictures that are given smaller than they are stored, where that is enough."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.media import MediaLimits, decode_image
from tests.models.media.make import encoded, quadrants
from tests.models.media.test_image import corners, lettered

LIMITS = MediaLimits()


@pytest.mark.parametrize(
    ("target", "size"), [(None, (1200, 900)), (901, (1200, 900)), (450, (600, 450)), (224, (300, 225)), (1, (150, 113))]
)
def test_a_jpeg_is_decoded_small_but_never_below_the_target(target: int | None, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = encoded(quadrants(900, 1200), "JPEG", exif=exif)
    pixels = decode_image(photo, LIMITS, target=target)
    assert pixels.shape == (*size, 3)
    turned = np.rot90(quadrants(900, 1200), -1)
    assert np.allclose(corners(pixels), corners(turned), atol=8)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WebP", {"lossless": True}), ("BMP", {}), ("TIFF", {})])
@pytest.mark.parametrize(("target", "factor"), [(None, 1), (29, 1), (28, 2), (15, 2), (14, 4), (7, 8), (1, 8)])
def test_other_formats_are_reduced_by_as_much_and_squares_averaged(
    monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any], target: int | None, factor: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (57, 131, 3), np.uint8)
    pixels = decode_image(encoded(noise, kind, **options), LIMITS, target=target)
    assert pixels.shape == (-(-57 // factor), -(-131 // factor), 3)
    high, wide = 57 // factor, 131 // factor
    squares = noise[: high * factor, : wide * factor].reshape(high, factor, wide, factor, 3)
    assert np.abs(pixels[:high, :wide] - squares.mean((1, 3))).max() < 1
    monkeypatch.setattr("models.media.image._STRIP", 1500)
    assert np.array_equal(decode_image(encoded(noise, kind, **options), LIMITS, target=target), pixels)


def test_a_reduced_photo_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode_image(encoded(quadrants(96, 128), "HEIC", exif=exif.tobytes()), LIMITS, target=24)
    assert pixels.shape == (32, 24, 3)
    assert np.allclose(corners(pixels), corners(np.rot90(quadrants(96, 128), -1)), atol=8)


def test_what_is_transparent_has_no_colour_in_a_reduced_picture() -> None:
    red = np.zeros((16, 16, 4), np.uint8)
    red[:, ::2] = (255, 0, 0, 255)
    red[:, 1::2] = (0, 255, 0, 0)
    assert decode_image(encoded(Image.fromarray(red), "PNG"), LIMITS, target=8)[0, 0].tolist() == [255, 128, 128]
    small = decode_image(lettered(250), LIMITS, target=20, ink=True)
    assert small.shape == (20, 30, 3)
    assert (small[0, 0].max(), small[10, 15].min()) == (0, 250)


def test_a_reduced_picture_keeps_no_more_than_its_pixels() -> None:
    large = encoded(quadrants(2000, 3000), "PNG")
    tracemalloc.start()
    pixels = decode_image(large, LIMITS, target=224)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert pixels.shape == (250, 375, 3)
    assert kept < 2 * pixels.nbytes
