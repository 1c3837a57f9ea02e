"""Video of high dynamic range: what was filmed comes out as a photo of it would show it."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

from models.media import MediaLimits, decode_video
from models.media.video import luma_frames
from tests.models.media.make import Pixels, quadrants

LIMITS = MediaLimits()

PQ, HLG, SDR = ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67, ColorTrc.BT709

LUMINANCE = np.array([0.2627, 0.6780, 0.0593])

TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Light of BT.709's primaries in those of BT.2020 (ITU-R BT.2087)."""


def filmed(
    signal: NDArray[np.float64], transfer: int, *, primaries: int = ColorPrimaries.BT2020, space: int = 9,
    turned: int = 0,
) -> bytes:  # fmt: skip
    """Two frames of an RGB signal [H, W, 3] between 0 and 1, in ten bits and without loss."""
    luma = signal @ LUMINANCE
    planes = luma * 876 + 64, (signal[..., 2] - luma) / 1.8814 * 896 + 512, (signal[..., 0] - luma) / 1.4746 * 896 + 512
    height, width = luma.shape
    small = [plane.reshape(height // 2, 2, width // 2, 2).mean((1, 3)) for plane in planes[1:]]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = int(transfer), int(primaries), space
        context.color_range = 1
        if turned:
            stream.set_display_rotation(degrees=turned)
        for index in range(2):
            frame = av.VideoFrame(width, height, "yuv420p10le")
            for place, values in enumerate((planes[0], *small)):
                plane = frame.planes[place]
                rows = np.zeros((values.shape[0], plane.line_size // 2), "<u2")
                rows[:, : values.shape[1]] = np.rint(values)
                plane.update(rows.tobytes())
            frame.pts, frame.time_base = index, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def light(pixels: Pixels) -> NDArray[np.float64]:
    """sRGB to light, white being 1."""
    value = pixels / 255
    return np.asarray(np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4))


def signal(shown: NDArray[np.float64], transfer: int) -> NDArray[np.float64]:
    """Light [..., 3] on the display, 203 cd/m2 being 1, as BT.2100 codes it."""
    if transfer == PQ:
        power = (shown * 203 / 10_000) ** (2610 / 16384)
        return np.asarray(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)
    shown = shown * 203 / 1000
    scene = shown * np.maximum(shown @ LUMINANCE, 1e-9)[..., None] ** (-0.2 / 1.2)
    logarithmic = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.asarray(np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithmic))


def plain(value: float) -> NDArray[np.float64]:
    return np.full((16, 32, 3), value)


def shade(file: bytes) -> float:
    return float(decode_video(file, LIMITS, count=1).frames.mean())


@pytest.mark.parametrize(("transfer", "value"), [(PQ, 0.38), (HLG, 0.38)])
def test_a_grey_card_is_middle_grey(transfer: int, value: float) -> None:
    # ITU-R BT.2408, table 1: it reflects 18 % of the light, is shown with 26 cd/m2 and has this signal.
    assert shade(filmed(plain(value), transfer)) == pytest.approx(100, abs=3)


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.58), (HLG, 0.75)])
def test_highlights_are_rolled_off(transfer: int, white: float) -> None:
    black, pale, full, bright, brightest = (
        shade(filmed(plain(value), transfer)) for value in (0, white - 0.03, white, white + 0.06, 1)
    )
    assert black == 0
    assert 220 < pale < full - 5
    assert 245 < full < bright <= brightest
    assert brightest == 255


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(
    ("primaries", "space"), [(ColorPrimaries.BT2020, 9), (ColorPrimaries.UNSPECIFIED, 2), (ColorPrimaries.BT709, 9)]
)
def test_colours_are_those_of_the_scene(transfer: int, primaries: int, space: int) -> None:
    colours = np.array([[(150, 90, 60), (40, 120, 50)], [(30, 60, 160), (200, 170, 120)]], np.uint8)
    wanted = colours.repeat(16, 0).repeat(16, 1)
    shown = light(wanted) if primaries == ColorPrimaries.BT709 else light(wanted) @ TO_BT2020.T
    file = filmed(signal(shown, transfer), transfer, primaries=primaries, space=space)
    frame = decode_video(file, LIMITS, count=1).frames[0]
    assert np.abs(frame[8::16, 8::16].astype(int) - colours).max() <= 3


def test_other_video_of_ten_bits_is_left_as_it_is() -> None:
    assert shade(filmed(plain(0.38), SDR)) == pytest.approx(0.38 * 255, abs=3)
    assert shade(filmed(plain(0.38), ColorTrc.BT2020_10)) == pytest.approx(0.38 * 255, abs=3)


def test_it_is_scaled_and_turned_as_other_video_is() -> None:
    stored = quadrants(48, 64)
    file = filmed(signal(light(stored) @ TO_BT2020.T, HLG), HLG, turned=90)
    frame = decode_video(file, LIMITS, count=1, target=24).frames[0]
    assert frame.shape == (32, 24, 3)
    assert frame.dtype == np.uint8
    expected = np.rot90(stored)
    rows, columns = [8, 24], [6, 18]
    assert np.abs(frame[rows][:, columns].astype(int) - expected[16::32, 12::24]).max() < 20


def test_luma_stays_as_it_is_coded() -> None:
    (luma, *_) = luma_frames(filmed(plain(0.5), PQ), LIMITS, fps=10)
    assert luma.mean() == pytest.approx(16 + 219 / 2, abs=13)
