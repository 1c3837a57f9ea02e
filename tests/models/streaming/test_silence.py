"""Silence without end: nothing is said, nothing grows, and what is said after it is heard as at the start."""

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.settings import ZOO
from models.pipeline import Pipeline
from models.readings.reading import Event
from models.streaming.checkpoint import recurrent_streams
from models.streaming.recurrent import RecurrentStreams
from models.streaming.session import Session
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import RATE, tones

PCM = {"audio": {"encoding": "pcm_s16le", "sample_rate": RATE}}
CHUNK = 32 * 640
"""Samples: as many as are stepped at once, so that an hour takes seconds."""
SILENCE = bytes(2 * CHUNK)
# Of these sounds the shipped network is sure enough for its state, which is never quite at rest, not to matter.
SPEECH = np.round(tones(4 * CHUNK / RATE, 63) * 32767).astype("<i2").tobytes()


class Line:
    """One session, fed as fast as it goes."""

    def __init__(self, streams: RecurrentStreams, **options: Any) -> None:
        self.streams = streams
        self.session: Session = streams.session(streams.options(**options), streams.readers(PCM))
        self.sent = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Send a chunk; what is said of it."""
        values, warning = self.session.readers["audio"].read(chunk, 0.0)
        assert warning is None
        self.session.put("audio", values, self.sent, len(chunk))
        self.sent += 1
        events: list[Event] = []
        while (work := self.session.next()[0]) is not None:
            events += self.streams.step([work])[0]
        return events

    def say(self) -> list[tuple[Any, ...]]:
        """Send speech, and a while of silence; what is heard, with times from the beginning of it."""
        began = self.sent * CHUNK / RATE
        chunks = [SPEECH[at : at + 2 * CHUNK] for at in range(0, len(SPEECH), 2 * CHUNK)] + [SILENCE] * 8
        events = [event for chunk in chunks for event in self.feed(chunk)]
        return [heard(word, began) for event in events if event["type"] == "final" for word in event["words"]]

    def size(self) -> tuple[int, int, int]:
        """Bytes of tensors, numbers, and bytes that wait."""
        tensors, numbers = self.streams.read(self.session.track)
        return sum(tensor.nbytes for tensor in tensors.values()), len(numbers), self.session.waiting


def heard(word: dict[str, Any], began: float) -> tuple[Any, ...]:
    times = (pytest.approx(word[key] - began, abs=1e-3) for key in ("start", "end"))
    return word["word"], *times, pytest.approx(word["probability"], abs=0.05)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("name", "seconds"), [("voice-commands", 3600), ("transcriber", 600)])
def test_an_hour_of_silence_leaves_a_session_as_it_was(name: str, seconds: int, tmp_path: Path) -> None:
    pipeline = Pipeline.load(ZOO / name if name == "voice-commands" else save_live(tmp_path / name, blank=6))
    streams = recurrent_streams(pipeline)
    line = Line(streams, **({"threshold": 0.4} if name == "voice-commands" else {}))
    for _ in range(8):
        line.feed(SILENCE)
    before = line.say()
    assert before
    size = line.size()
    told: list[Event] = []
    sizes, held = {size}, []
    chunks = round(seconds * RATE / CHUNK)
    for number in range(chunks):
        told += line.feed(SILENCE)
        if number % 8 == 0:
            sizes.add(line.size())
        if number % (chunks // 16) == 0:
            held.append(blocks())
    assert told == []
    assert max(sizes) == size
    # Once allocators have filled their lists. One object kept of every chunk would be hundreds, some in each stretch.
    # What threads of other tests hold comes in one of these.
    grown = np.diff(held[len(held) // 2 :])
    assert np.median(grown) * len(grown) < 100
    assert line.say() == before


def blocks() -> int:
    """Objects that the process holds."""
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("grammar", [True, False])
def test_the_shipped_transcriber_writes_nothing_in_silence(grammar: bool) -> None:
    line = Line(recurrent_streams(Pipeline.load(ZOO / "av-speech-live")), grammar=grammar)
    assert [event for _ in range(50) for event in line.feed(SILENCE)] == []
