"""Every limit accepts a medium that just meets it and refuses one that passes it by one."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from models.media import (
    MediaError,
    MediaLimits,
    MediaOutOfBounds,
    MediaTooLarge,
    decode_audio,
    decode_image,
    decode_text,
    decode_video,
    video_audio,
)
from tests.models.media.make import clip, encoded, quadrants, recorded, streamed, tone

PHOTO = encoded(quadrants(30, 40), "PNG")
SOUND = recorded(tone(440, 2, 8000), 8000)
SONG = streamed(tone(440, 2), 48_000, "flac", "flac")
CLIP = clip(20, sound=tone(440, 2), rate=10)


def video(data: bytes, limits: MediaLimits) -> object:
    return decode_video(data, limits, count=2)


@pytest.mark.parametrize(
    ("decode", "data", "field", "just", "error"),
    [
        (decode_image, PHOTO, "image_bytes", len(PHOTO), MediaTooLarge),
        (decode_image, PHOTO, "image_pixels", 1200, MediaOutOfBounds),
        (decode_audio, SOUND, "audio_bytes", len(SOUND), MediaTooLarge),
        (decode_audio, SOUND, "audio_seconds", 2, MediaOutOfBounds),
        (decode_audio, SONG, "audio_seconds", 2, MediaOutOfBounds),
        (video, CLIP, "video_bytes", len(CLIP), MediaTooLarge),
        (video, CLIP, "video_seconds", 2, MediaOutOfBounds),
        (video, CLIP, "video_pixels", 64 * 32, MediaOutOfBounds),
        (video, CLIP, "video_frames", 20, MediaOutOfBounds),
        (decode_text, b"twelve chars", "text_characters", 12, MediaOutOfBounds),
        (decode_text, "twelve chars", "text_characters", 12, MediaOutOfBounds),
    ],
)
def test_a_limit_is_the_most_that_is_accepted(
    decode: Callable[[bytes | str, MediaLimits], object],
    data: bytes | str,
    field: str,
    just: int,
    error: type[MediaError],
) -> None:
    decode(data, replace(MediaLimits(), **{field: just}))
    with pytest.raises(error) as caught:
        decode(data, replace(MediaLimits(), **{field: just - 1}))
    assert str(just - 1) in (caught.value.limit or "")
    assert caught.value.modality == field.split("_", maxsplit=1)[0]


def test_a_videos_sound_track_has_the_videos_limits() -> None:
    limits = MediaLimits(audio_bytes=1, audio_seconds=0.1)
    assert video_audio(CLIP, limits) is not None
    with pytest.raises(MediaOutOfBounds):
        video_audio(CLIP, replace(limits, video_seconds=1))


@pytest.mark.parametrize("decode", [decode_image, decode_audio, video, decode_text])
def test_nothing_is_not_a_medium(decode: Callable[[bytes, MediaLimits], object]) -> None:
    with pytest.raises(MediaOutOfBounds):
        decode(b"", MediaLimits())
