"""What a JPEG may consist of."""

import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.media import MediaLimits, MediaOutOfBounds, UndecodableMedia, decode_image
from tests.models.media.make import encoded, quadrants
from tests.models.media.test_image import close

LIMITS = MediaLimits()
UPRIGHT = quadrants()


def test_a_progressive_jpeg_cannot_keep_the_decoder_busy() -> None:
    photo = encoded(UPRIGHT, "JPEG", progressive=True)
    last = photo[photo.rindex(b"\xff\xda") : -2]
    assert decode_image(photo[:-2] + 20 * last + photo[-2:], LIMITS).shape == UPRIGHT.shape
    with pytest.raises(MediaOutOfBounds, match="too many scans"):
        decode_image(photo[:-2] + 200 * last + photo[-2:], LIMITS)


def test_what_is_no_part_of_a_jpegs_image_does_not_count() -> None:
    marks = 300 * b"\xff\xda"
    photo = encoded(UPRIGHT, "JPEG", comment=marks, quality=95, subsampling=0)
    assert close(decode_image(photo + b"\0\0\0\x18ftypmp42" + marks, LIMITS), UPRIGHT, by=4)
    # Bytes may be filled in before a marker, and restarts stand among the pixels.
    restarts = encoded(UPRIGHT, "JPEG", restart_marker_rows=1, quality=95, subsampling=0)
    at = restarts.index(b"\xff\xda")
    assert close(decode_image(restarts[:at] + 9 * b"\xff" + restarts[at:] + marks, LIMITS), UPRIGHT, by=4)


def test_a_jpeg_of_many_small_segments_cannot_keep_the_reader_busy() -> None:
    photo = encoded(UPRIGHT, "JPEG")
    assert decode_image(photo[:2] + 1000 * b"\xff\xfe\0\2" + photo[2:], LIMITS).shape == UPRIGHT.shape
    start = time.perf_counter()
    with pytest.raises(MediaOutOfBounds, match="too many segments"):
        decode_image(photo[:2] + 500_000 * b"\xff\xfe\0\2" + photo[2:], LIMITS)
    assert time.perf_counter() - start < 0.5


NOISE = np.random.default_rng(0).integers(0, 256, (72, 88, 3), np.uint8)
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gray": {},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "fine": {"subsampling": 0, "quality": 95},
}


def jpeg(kind: str, pixels: NDArray[np.uint8] = NOISE) -> bytes:
    return encoded(pixels[..., 0] if kind == "gray" else pixels, "JPEG", **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", [None, 16])
def test_a_jpeg_without_its_end_mark_is_whole(kind: str, target: int | None) -> None:
    for pixels in (NOISE, UPRIGHT):
        whole = jpeg(kind, pixels)
        expected = decode_image(whole, LIMITS, target=target)
        # A camera may also fill up its buffer.
        for file in (whole[:-2], whole[:-1], whole[:-2] + bytes(100)):
            assert np.array_equal(decode_image(file, LIMITS, target=target), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_that_lacks_pixels_is_refused(kind: str) -> None:
    whole = jpeg(kind)
    start = whole.rindex(b"\xff\xda") + 12
    restarts = [at for at in range(start, len(whole)) if whole[at] == 0xFF and 0xD0 <= whole[at + 1] <= 0xD7]
    assert bool(restarts) == (kind == "restarts")
    for kept in (*range(start, len(whole) - 2, 97), *range(len(whole) - 9, len(whole) - 3), *restarts):
        with pytest.raises(UndecodableMedia, match="truncated or corrupt"):
            decode_image(whole[:kept], LIMITS)
