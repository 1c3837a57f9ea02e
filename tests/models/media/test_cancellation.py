"""Decoding ends where nobody waits for it."""

from collections.abc import Callable

import pytest

from models.media import MediaLimits, decode_audio, decode_video, video_audio
from models.media.cancellation import Cancelled, check_cancelled, while_wanted
from models.media.video import luma_frames
from tests.models.media.make import clip, recorded, tone

LIMITS = MediaLimits()
FILM = clip(30, sound=tone(440))
WORK: dict[str, Callable[[], object]] = {
    "wav": lambda: decode_audio(recorded(tone(440), 48_000), LIMITS),
    "flac": lambda: decode_audio(recorded(tone(440), 48_000, "FLAC"), LIMITS),
    "frames": lambda: decode_video(FILM, LIMITS, count=5),
    "each frame": lambda: list(luma_frames(FILM, LIMITS, fps=10)),
    "sound track": lambda: video_audio(FILM, LIMITS),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_nothing_is_decoded_for_nobody(work: Callable[[], object]) -> None:
    with pytest.raises(Cancelled), while_wanted(lambda: False):
        work()
    work()


@pytest.mark.parametrize("name", ["frames", "each frame", "sound track"])
def test_whoever_leaves_is_noticed_amid_the_work(name: str) -> None:
    asked: list[bool] = []

    def is_wanted() -> bool:
        asked.append(True)
        return len(asked) < 20

    with pytest.raises(Cancelled), while_wanted(is_wanted):
        WORK[name]()
    assert len(asked) == 20


def test_somebody_waits_unless_it_is_said_that_nobody_does() -> None:
    check_cancelled()
    with while_wanted(lambda: True):
        check_cancelled()
