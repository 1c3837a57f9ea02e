import tracemalloc
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from av.video.reformatter import Colorspace

from models.media import MediaLimits, MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, Video, decode_video
from tests.models.media.make import (
    INDEX_FIRST,
    Pixels,
    clip,
    encoded,
    number,
    numbered,
    quadrants,
    streamed,
    tone,
)

LIMITS = MediaLimits()


def numbers(video: Video) -> list[int]:
    return [number(frame) for frame in video.frames]


FORMATS: dict[str, dict[str, Any]] = {
    "mp4 h264": {"codec": "libx264", "container": "mp4"},
    "mp4 mpeg4": {"codec": "mpeg4", "container": "mp4"},
    "mp4 hevc": {"codec": "libx265", "container": "mp4", "options": {"x265-params": "log-level=none:pools=1"}},
    "mp4 in fragments": {"codec": "libx264", "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "mov h264": {"codec": "libx264", "container": "mov"},
    "mov prores": {"codec": "prores", "container": "mov"},
    "webm vp8": {"codec": "libvpx", "container": "webm"},
    "webm vp9": {"codec": "libvpx-vp9", "container": "webm"},
    "webm without duration": {"codec": "libvpx", "container": "webm", "muxing": {"live": "1"}},
    "mkv h264": {"codec": "libx264", "container": "matroska"},
    "mkv ffv1": {"codec": "ffv1", "container": "matroska"},
    "avi mpeg4": {"codec": "mpeg4", "container": "avi"},
    "avi with b frames": {"codec": "mpeg4", "container": "avi", "options": {"bf": "2"}},
    "avi h264": {"codec": "libx264", "container": "avi"},
    "avi mjpeg": {"codec": "mjpeg", "container": "avi"},
    "mpeg 1": {"codec": "mpeg1video", "container": "mpeg"},
    "mpeg ts mpeg2": {"codec": "mpeg2video", "container": "mpegts", "options": {"bf": "2"}},
    "mpeg ts h264": {"codec": "libx264", "container": "mpegts"},
    "mpeg stream": {"codec": "mpeg2video", "container": "mpeg2video"},
    "ogg vp8": {"codec": "libvpx", "container": "ogg"},
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_right_frames_come_out_of_every_format(form: dict[str, Any]) -> None:
    file = clip(75, rate=25, **form)
    video = decode_video(file, LIMITS, count=5)
    assert video.frames.dtype == np.uint8
    assert video.frames.shape == (5, 32, 64, 3)
    assert numbers(video) == [7, 22, 37, 52, 67]
    assert video.times == pytest.approx(np.array([7, 22, 37, 52, 67]) / 25, abs=0.002)
    assert video.duration == pytest.approx(3, abs=0.05)
    assert not video.has_audio


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_short_clip_gives_all_its_frames(form: dict[str, Any]) -> None:
    assert numbers(decode_video(clip(3, rate=25, **form), LIMITS, count=8)) == [0, 1, 2]


@pytest.mark.parametrize("codec", ["libx264", "libvpx", "mpeg4"])
@pytest.mark.parametrize("gop", [1, 5, 12, 250])
@pytest.mark.parametrize("count", [1, 4, 9, 40])
def test_skipping_what_is_not_needed_changes_no_frame(codec: str, gop: int, count: int) -> None:
    container = "webm" if codec == "libvpx" else "mp4"
    file = clip(40, codec, container, rate=25, options={"g": str(gop), **({"bf": "2"} if codec == "mpeg4" else {})})
    whole = decode_video(file, LIMITS, count=40)
    some = decode_video(file, LIMITS, count=count)
    assert numbers(whole) == list(range(40))
    picked = numbers(some)
    assert picked == [int((place + 0.5) * 40 / count) for place in range(count)]
    assert np.array_equal(some.frames, whole.frames[picked])


def test_open_groups_of_pictures_are_no_obstacle() -> None:
    file = clip(
        40, "libx264", rate=25, options={"x264-params": "keyint=8:min-keyint=8:open-gop=1:bframes=3:scenecut=0"}
    )
    assert numbers(decode_video(file, LIMITS, count=10)) == list(range(2, 40, 4))


@pytest.mark.parametrize("form", ["mp4 h264", "webm vp8", "mkv h264"])
def test_frames_are_even_in_time_where_the_rate_varies(form: str) -> None:
    times = [0, 40, 80, 120, 160, 1000, 1040, 2500, 2540, 3900, 3960]
    video = decode_video(clip(11, times=times, **FORMATS[form]), LIMITS, count=4)
    # The middles of four spans are 0.5, 1.5, 2.5 and 3.5 s; what is on display then began at:
    assert video.times == pytest.approx([0.16, 1.04, 2.5, 2.54], abs=0.002)
    assert numbers(video) == [4, 6, 7, 8]


@pytest.mark.parametrize("factor", [0, 1 / 7, 10])
def test_a_duration_that_the_header_gets_wrong_does_not_matter(factor: float) -> None:
    file = bytearray(clip(20, "libx264", rate=10))
    for kind, skip in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20), (b"elst", 12)):
        at = file.index(kind) + skip
        stated = int.from_bytes(file[at : at + 4], "big")
        if kind != b"elst":
            file[at : at + 4] = int(stated * factor).to_bytes(4, "big")
    video = decode_video(bytes(file), LIMITS, count=4)
    assert numbers(video) == [2, 7, 12, 17]
    assert video.duration == pytest.approx(2)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [{}, {"hflip": True}, {"vflip": True}])
@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_a_phones_video_is_upright(degrees: int, mirror: dict[str, bool], container: str) -> None:
    stored = quadrants(48, 64)
    video = decode_video(
        clip([stored] * 3, container=container, turned={"degrees": degrees, **mirror}), LIMITS, count=1
    )
    upright = np.rot90(stored, degrees // 90)
    if mirror.get("hflip"):
        upright = upright[:, ::-1]
    if mirror.get("vflip"):
        upright = upright[::-1]
    assert video.frames.shape[1:] == upright.shape
    assert near(video.frames[0], upright)


def near(frame: Pixels, expected: Pixels) -> bool:
    """Whether the middles of the quadrants have the same colours."""
    height, width = frame.shape[:2]
    rows, columns = [height // 4, 3 * height // 4], [width // 4, 3 * width // 4]
    return bool(np.abs(frame[rows][:, columns].astype(int) - expected[rows][:, columns]).max() < 16)


@pytest.mark.parametrize(
    ("target", "size"), [(None, (96, 128)), (200, (96, 128)), (96, (96, 128)), (48, (48, 64)), (33, (33, 44))]
)
def test_frames_are_scaled_down_to_the_target_and_never_up(target: int | None, size: tuple[int, int]) -> None:
    for turned in ({}, {"degrees": 90}):
        video = decode_video(clip([quadrants(96, 128)] * 2, turned=turned), LIMITS, count=2, target=target)
        assert video.frames.shape[1:3] == (size if not turned else size[::-1])
        assert near(video.frames[0], np.rot90(quadrants(*size), 1 if turned else 0))


def test_pixels_are_made_square() -> None:
    wide, high = (
        clip([quadrants(64, 64)] * 2, "libx264", context={"sample_aspect_ratio": ratio})
        for ratio in (Fraction(16, 11), Fraction(11, 16))
    )
    assert decode_video(wide, LIMITS, count=1).frames.shape == (1, 44, 64, 3)
    assert decode_video(wide, LIMITS, count=1, target=32).frames.shape == (1, 32, 47, 3)
    assert decode_video(high, LIMITS, count=1).frames.shape == (1, 64, 44, 3)


def test_a_strip_is_scaled_down_further_than_its_shorter_side_asks() -> None:
    strip, ordinary = (clip([quadrants(16, width)] * 2) for width in (1024, 128))
    assert decode_video(strip, LIMITS, count=1, target=16).frames.shape == (1, 6, 362, 3)
    assert decode_video(ordinary, LIMITS, count=1, target=16).frames.shape == (1, 16, 128, 3)


@pytest.mark.parametrize(
    ("height", "space", "named"),
    [
        (96, Colorspace.ITU601, True),
        (96, Colorspace.ITU601, False),
        (96, Colorspace.ITU709, True),
        (720, Colorspace.ITU709, False),
    ],
)
def test_colours_follow_the_standard_that_is_named_or_usual(height: int, space: Colorspace, named: bool) -> None:
    wanted = quadrants(height, 128)
    name = {"colorspace": 1 if space is Colorspace.ITU709 else 6} if named else {}  # FFmpeg numbers them twice
    file = clip([wanted] * 2, "libx264", options={"qp": "4"}, space=space, context=name)
    frame = decode_video(file, LIMITS, count=1).frames[0]
    assert near(frame, wanted)
    height, width = wanted.shape[:2]
    off = np.abs(frame[height // 4, width // 4].astype(int) - wanted[height // 4, width // 4]).max()
    assert off < 6  # the wrong standard is off by 20 and more


def test_the_sound_track_is_noticed() -> None:
    assert decode_video(clip(5, sound=tone(440, 0.5)), LIMITS, count=1).has_audio


def test_frames_are_never_held_but_those_kept() -> None:
    file = clip([numbered(index % 256, 240, 320) for index in range(100)], rate=25)
    tracemalloc.start()
    try:
        video = decode_video(file, LIMITS, count=4, target=24)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert video.frames.shape == (4, 24, 32, 3)
    assert peak < 2 * 240 * 320 * 3  # two whole frames of a hundred


def test_what_has_no_moving_pictures_is_no_video() -> None:
    with pytest.raises(UnsupportedMedia, match="without moving pictures"):
        decode_video(streamed(tone(440), 48_000, "aac", "mp4"), LIMITS, count=1)
    with pytest.raises(UnsupportedMedia, match="as M4A"):
        decode_video(streamed(tone(440), 48_000, "aac", "ipod"), LIMITS, count=1)
    with pytest.raises(UnsupportedMedia, match="as GIF"):
        decode_video(encoded(quadrants(), "GIF"), LIMITS, count=1)


def test_an_encrypted_video_is_named_as_such() -> None:
    key = {"encryption_key": "76a6c65c5ea762046bd749a2e632ccbb", "encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    file = clip(5, "libx264", muxing={"encryption_scheme": "cenc-aes-ctr", **key})
    with pytest.raises(UnsupportedMedia, match="encrypted"):
        decode_video(file, LIMITS, count=1)


def test_a_header_without_frames_is_no_video() -> None:
    file = clip(3, "libvpx", "webm")
    with pytest.raises(UndecodableMedia):
        decode_video(file[: file.index(b"\x1f\x43\xb6\x75")], LIMITS, count=1)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_video_that_ends_before_its_index_says_is_refused(kept: float) -> None:
    file = clip(40, "libx264", muxing=INDEX_FIRST)
    start = file.index(b"mdat")
    assert numbers(decode_video(file, LIMITS, count=2)) == [10, 30]
    with pytest.raises(UndecodableMedia):
        decode_video(file[: start + int(kept * (len(file) - start))], LIMITS, count=2)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("form", ["webm vp8", "mkv h264"])
def test_a_video_that_ends_before_its_segment_says_is_refused(form: str, kept: float) -> None:
    file = clip(75, rate=25, **FORMATS[form])
    with pytest.raises(UndecodableMedia, match="ends before"):
        decode_video(file[: int(kept * len(file))], LIMITS, count=2)


@pytest.mark.parametrize("form", ["webm without duration", "mpeg ts h264", "mpeg 1"])
def test_a_recording_that_was_cut_off_gives_what_there_is(form: str) -> None:
    file = clip(75, rate=25, **FORMATS[form])
    video = decode_video(file[: len(file) // 2], LIMITS, count=3)
    assert len(video.frames) == 3
    assert 0.5 < video.duration < decode_video(file, LIMITS, count=3).duration
    assert numbers(video) == [round(time * 25) for time in video.times]


def test_a_recording_that_starts_between_key_frames_starts_at_the_next() -> None:
    file = clip(40, "mpeg2video", "mpegts", rate=25, options={"g": "10", "bf": "0", "sc_threshold": "1000000000"})
    video = decode_video(file[188 * 30 :], LIMITS, count=40)
    assert numbers(video)[0] % 10 == 0
    assert numbers(video) == list(range(numbers(video)[0], 40))
    assert 0 < video.times[0] < 0.4


JOINED: dict[str, dict[str, Any]] = {
    "mpeg ts h264": {"codec": "libx264", "container": "mpegts"},
    "mpeg ts mpeg2": {"codec": "mpeg2video", "container": "mpegts", "options": {"bf": "2"}},
    "mpeg 1": {"codec": "mpeg1video", "container": "mpeg"},
    "mpeg 2": {"codec": "mpeg2video", "container": "vob", "options": {"bf": "2"}},
}


@pytest.mark.parametrize("form", JOINED.values(), ids=JOINED)
@pytest.mark.parametrize("starts", [(0, 0), (4, 0), (4, 4.6), (0, 40), (90, 0)])
def test_recordings_that_were_joined_are_seen_one_after_the_other(
    form: dict[str, Any], starts: tuple[float, float]
) -> None:
    file = b"".join(
        clip(
            [numbered(30 * part + index) for index in range(30)],
            rate=25,
            muxing={"output_ts_offset": str(start)},
            **form,
        )
        for part, start in enumerate(starts)
    )
    video = decode_video(file, LIMITS, count=60)
    assert numbers(video) == list(range(60))
    assert video.times == pytest.approx(np.arange(60) / 25, abs=0.05)  # FFmpeg guesses some of MPEG-1 and 2
    assert video.duration == pytest.approx(2.4, abs=0.05)
    assert numbers(decode_video(file, LIMITS, count=4)) == [7, 22, 37, 52]
    with pytest.raises(MediaOutOfBounds, match="seconds"):
        decode_video(file, replace(LIMITS, video_seconds=2), count=1)


def test_damage_costs_the_frames_it_hits_and_no_more() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 64, 3), np.uint8)
    pictures = [numbered(index) // 2 + noise[index] // 4 for index in range(40)]
    file = bytearray(clip(pictures, "mpeg4", rate=25, options={"g": "10"}))
    middle = (file.index(b"mdat") + file.index(b"moov")) // 2
    file[middle : middle + 600] = bytes(600)
    video = decode_video(bytes(file), LIMITS, count=8)
    shown = [number(np.where(frame > 90, 255, 0).astype(np.uint8)) for frame in video.frames]
    right = [index == round(time * 25) for index, time in zip(shown, video.times, strict=True)]
    assert 5 <= sum(right) <= 7


def test_frames_larger_than_the_header_says_are_refused() -> None:
    small, large = clip([quadrants(32, 64)] * 3, "mpeg4", "avi"), clip([quadrants(512, 1024)] * 3, "mpeg4", "avi")
    lying = bytearray(large)
    for at in (large.index(b"avih") + 40, large.index(b"strf") + 12):
        lying[at : at + 8] = (64).to_bytes(4, "little") + (32).to_bytes(4, "little")
    limits = replace(LIMITS, video_pixels=64 * 32)
    assert len(decode_video(small, limits, count=3).frames) == 3
    with pytest.raises((MediaOutOfBounds, UndecodableMedia)):
        decode_video(bytes(lying), limits, count=3)


def test_a_count_below_one_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="count is 0"):
        decode_video(clip(2), LIMITS, count=0)
