"""What a request costs by its length: sounds from a second to half an hour, videos from one frame to five hundred."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.client import form, one_by_one
from benchmarks.serving.journal import Record
from benchmarks.serving.media import sound, talking_face
from benchmarks.serving.servers import Running

_PATIENCE = 600.0
_FPS = 25


@dataclass(frozen=True, slots=True)
class Ladder:
    """Media of growing length for one checkpoint; lengths in ``unit``."""

    model: str
    part: str
    unit: str
    lengths: Sequence[int]
    make: Callable[[int], bytes]


def _sound(seconds: int) -> bytes:
    return sound(np.random.default_rng(0), seconds, "WAV")


def _clip(frames: int) -> bytes:
    return talking_face(np.random.default_rng(0), frames / _FPS)


LADDERS = (
    Ladder("voice-commands", "audio", "s", (1, 4, 15, 60, 240, 600, 1800), _sound),
    Ladder("av-speech", "video", "frames", (1, 5, 25, 100, 250, 500), _clip),
)


def seconds_by_length(running: Running, ladder: Ladder, repeats: int) -> Record:
    """Median seconds of a request of each length, alone on the machine; None where the service refuses the length."""
    found: dict[str, float | None] = {}
    for length in ladder.lengths:
        post = form(f"/v1/models/{ladder.model}/predict", ladder.part, ladder.make(length))
        outcomes = one_by_one(running.url, [post] * (repeats + 1), _PATIENCE)[1:]
        answered = [outcome.seconds for outcome in outcomes if outcome.status == 200]
        found[str(length)] = float(np.median(answered)) if answered else None
    return {"seconds": found}
