"""How large a session's state is, and whether a step costs more after an hour."""

from dataclasses import dataclass

import numpy as np
import torch

from app.settings import ZOO
from benchmarks.timing import interleaved
from models.pipeline import Pipeline
from models.streaming.checkpoint import recurrent_streams
from models.streaming.recurrent import RecurrentStreams
from models.streaming.sealing import Sealer
from models.streaming.session import Session

RATE = 16_000
CHUNK = 1280


@dataclass(frozen=True, slots=True)
class Steady:
    """Milliseconds of a step of 80 ms after some seconds and after an hour, the ratio, and the bytes of both states."""

    early: float
    late: float
    ratio: float
    early_bytes: int
    late_bytes: int


def steady(sound: np.ndarray, hours: float) -> Steady:
    """One session hears ``sound``, float32 at 16 kHz, over and over for so long; another one for ten seconds."""
    pipeline = Pipeline.load(ZOO / "voice-commands")
    torch.set_num_threads(1)
    streams = recurrent_streams(pipeline)
    sealer = Sealer(b"key", pipeline.digest, 60)
    old, young = _session(streams), _session(streams)
    _hear(streams, old, sound, hours * 3600)
    _hear(streams, young, sound, 10)
    piece = sound[:CHUNK]
    pair = interleaved(
        lambda: _step(streams, old, piece), lambda: _step(streams, young, piece), device="cpu", seconds=4
    )
    sizes = [len(_sealed(sealer, session)) for session in (young, old)]
    return Steady(pair.bare * 1e3, pair.ours * 1e3, pair.ratio, *sizes)


def _session(streams: RecurrentStreams) -> Session:
    readers = streams.readers({"audio": {"encoding": "pcm_f32le", "sample_rate": RATE}})
    return streams.session(streams.options(), readers)


def _hear(streams: RecurrentStreams, session: Session, sound: np.ndarray, seconds: float) -> None:
    left = round(seconds * RATE)
    while left > 0:
        piece = sound[: min(left, 32 * 640)]
        sound = np.roll(sound, -len(piece))
        session.put("audio", piece, 0, 0)
        left -= len(piece)
        while (work := session.next()[0]) is not None:
            streams.step([work])


def _step(streams: RecurrentStreams, session: Session, piece: np.ndarray) -> None:
    session.put("audio", piece, 0, 0)
    work, _ = session.next()
    assert work is not None
    streams.step([work])


def _sealed(sealer: Sealer, session: Session) -> bytes:
    session.mark("export")
    _, mark = session.next()
    assert mark is not None
    snapshot = session.snapshot(mark)
    return sealer.seal(snapshot.tensors, {"numbers": snapshot.numbers})
