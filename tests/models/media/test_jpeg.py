"""What a JPEG may consist of."""

import time

import pytest

from models.media import MediaLimits, MediaOutOfBounds, decode_image
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
