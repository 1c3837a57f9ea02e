"""Luma at a steady rate: the frame that is on display, upright, one after the other."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from models.media import MediaError, MediaLimits, decode_video
from models.media.video import luma_frames, rgb_frames
from tests.models.media.make import clip, number, quadrants

LIMITS = MediaLimits()


def numbers(frames: list[NDArray[np.uint8]]) -> list[int]:
    return [number(frame[:, :, None]) for frame in frames]


@pytest.mark.parametrize(
    ("fps", "shown"),
    [(10, [0, 1, 2, 3, 4, 5, 6, 7]), (20, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]), (5, [1, 3, 5, 7])],
)
def test_what_is_on_display_in_the_middle_of_each_step_is_given(fps: int, shown: list[int]) -> None:
    assert numbers(list(luma_frames(clip(8, rate=10), LIMITS, fps=fps))) == shown


def test_times_decide_not_the_count_of_frames() -> None:
    video = clip(4, container="matroska", times=[0, 100, 600, 700])
    assert numbers(list(luma_frames(video, LIMITS, fps=10)))[:8] == [0, 1, 1, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "ffv1"])
def test_luma_is_that_of_the_colours(codec: str) -> None:
    video = clip([quadrants()] * 3, codec, "matroska")
    (luma, *_) = luma_frames(video, LIMITS, fps=10)
    colours = decode_video(video, LIMITS, count=1).frames[0].astype(float)
    grey = colours @ [0.299, 0.587, 0.114]
    assert luma.shape == grey.shape
    # Black is 16 and white 235 in some files.
    assert np.corrcoef(luma.ravel(), grey.ravel())[0, 1] > 0.999


def test_frames_are_turned_upright_and_scaled_down() -> None:
    video = clip([quadrants(96, 128)] * 2, turned={"degrees": -90})
    (luma, *_) = luma_frames(video, LIMITS, fps=10, target=48)
    frame = decode_video(video, LIMITS, count=1, target=48).frames[0]
    assert luma.shape == frame.shape[:2] == (64, 48)
    assert np.corrcoef(luma.ravel(), (frame @ [0.299, 0.587, 0.114]).ravel())[0, 1] > 0.99
    (luma, *_) = luma_frames(video, LIMITS, fps=10, target=480)
    assert luma.shape == (128, 96)


def test_a_part_of_the_video_is_its_beginning() -> None:
    assert numbers(list(luma_frames(clip(20), LIMITS, fps=10, seconds=0.5))) == [0, 1, 2, 3, 4]


def test_limits_hold_before_anything_is_decoded() -> None:
    for limits in (MediaLimits(video_seconds=1), MediaLimits(video_pixels=100), MediaLimits(video_bytes=50)):
        with pytest.raises(MediaError):
            next(luma_frames(clip(20), limits, fps=10))
    with pytest.raises(MediaError):
        next(luma_frames(b"nothing", LIMITS, fps=10))


@pytest.mark.parametrize("fps", [1, 10])
def test_colours_are_those_of_the_frames_that_luma_is_given_of(fps: int) -> None:
    video = clip(20, rate=10)
    colours = list(rgb_frames(video, LIMITS, fps=fps, target=32))
    luma = list(luma_frames(video, LIMITS, fps=fps, target=32))
    assert [number(frame) for frame in colours] == [number(frame[:, :, None]) for frame in luma]
    whole = decode_video(video, LIMITS, count=2 * fps, target=32).frames
    np.testing.assert_array_equal(np.stack(colours), whole)


def test_a_frame_is_decoded_when_it_is_asked_for() -> None:
    video = clip(20, rate=10)
    frames = rgb_frames(video, LIMITS, fps=10)
    assert next(frames).shape[2] == 3
    frames.close()
    assert list(frames) == []


def test_four_times_the_frames_take_about_four_times_as_long() -> None:
    def spent(count: int) -> float:
        file = clip(count, "mpeg4", rate=60, options={"g": "600"})
        began = time.thread_time()
        frames = sum(1 for _ in luma_frames(file, LIMITS, fps=25))
        assert frames == round(count / 60 * 25)
        return time.thread_time() - began

    spent(100)
    assert spent(12_000) < 8 * spent(3_000)
