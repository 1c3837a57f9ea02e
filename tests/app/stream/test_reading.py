"""A chunk that is being read comes once, whatever becomes of the connection that brought it."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from app.engine.bounds import SessionBounds
from app.engine.live import Live
from models.state import State
from models.streaming.container import CodedReader
from models.streaming.errors import BadChunk
from models.streaming.session import Session
from models.streaming.track import Queue, Track
from tests.app.stream.conftest import PATH, FarEnd
from tests.models.streaming.test_container import coded

BOUNDS = SessionBounds(chunk_bytes=2**18, window_bytes=2**18, events=256, idle_seconds=30, total_seconds=60)


class Slow:
    """Reads when it may, and remembers how much it has read."""

    offload = True

    def __init__(self) -> None:
        self.began, self.may = threading.Event(), threading.Event()
        self.count = 0

    def read(self, chunk: bytes, time: float) -> tuple[NDArray[np.uint8], str | None]:
        self.count += 1
        self.began.set()
        self.may.wait(10)
        if chunk == b"bad":
            raise BadChunk("it is bad")
        return np.frombuffer(chunk, np.uint8), None

    def finish(self, *, last: bool) -> NDArray[np.uint8]:
        return np.zeros(0, np.uint8)

    def save(self) -> State:
        return {"count": torch.tensor(self.count)}

    def load(self, state: State) -> None:
        self.count = int(state["count"])

    def close(self) -> None:
        """There is nothing to close."""


def opened() -> tuple[Live, Slow]:
    """A session whose lane does nothing, and its reader."""
    reader = Slow()
    track = Track(0, (True,), {"audio": Queue(np.zeros(0, np.uint8))}, {"audio": 1}, Any)  # type: ignore[arg-type]
    session = Session(Any, track, {"audio": reader})  # type: ignore[arg-type]

    async def offload(work: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(work)

    return Live(session, {}, BOUNDS, lambda _: None, offload), reader


async def dropped(live: Live, reader: Slow, chunk: bytes) -> None:
    """Let a connection bring a chunk, and leave while it is read."""
    reader.may.clear()
    reader.began.clear()
    taking = asyncio.create_task(live.take("audio", live.next_sequence, chunk, 0.0))
    assert await asyncio.to_thread(reader.began.wait, 10)
    taking.cancel()
    await asyncio.wait([taking])
    assert taking.cancelled()


def run(test: Callable[[Live, Slow], Awaitable[None]]) -> None:
    async def inside() -> None:
        await test(*opened())

    asyncio.run(inside())


def test_a_chunk_whose_connection_leaves_is_not_asked_for_again() -> None:
    async def test(live: Live, reader: Slow) -> None:
        await dropped(live, reader, b"abc")
        again = asyncio.create_task(live.take("audio", 0, b"abc", 0.0))
        await asyncio.sleep(0.01)
        assert reader.count == 1
        reader.may.set()
        await again
        await live.take("audio", 1, b"de", 0.0)
        assert live.next_sequence == reader.count == 2
        live.session.next()
        assert live.session.acknowledged == 1
        assert live.session.waiting == 0

    run(test)


def test_a_chunk_that_cannot_be_read_ends_the_next_connection() -> None:
    async def test(live: Live, reader: Slow) -> None:
        await dropped(live, reader, b"bad")
        reader.may.set()
        await live.settled()
        assert live.next_sequence == 0
        with pytest.raises(BadChunk):
            await live.take("audio", 0, b"good", 0.0)
        assert reader.count == 1

    run(test)


def test_a_state_has_what_is_being_read_both_in_the_reader_and_in_the_chunks() -> None:
    async def test(live: Live, reader: Slow) -> None:
        await dropped(live, reader, b"abc")
        states: list[str | None] = []
        live.export(states.append)
        flush = asyncio.create_task(live.close_utterance("flush"))
        await asyncio.sleep(0.01)
        assert not live.session._inbox
        reader.may.set()
        await flush
        chunk, mark, *_ = live.session._inbox
        assert chunk.sequence == 0  # type: ignore[union-attr]
        assert int(mark.held["readers.audio.count"]) == 1  # type: ignore[union-attr]

    run(test)


def test_who_comes_back_is_told_of_the_chunk_that_was_read_meanwhile(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CodedReader.read
    begun = threading.Event()

    def slow(reader: CodedReader, chunk: bytes, seconds: float = 0.0) -> Any:
        begun.set()
        time.sleep(0.5)
        return read(reader, chunk, seconds)

    data = coded("ogg", 2)
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        name = far.start(modalities={"audio": {"encoding": "ogg"}})["session"]
        monkeypatch.setattr(CodedReader, "read", slow)
        far.send(data[:5000])
        assert begun.wait(10)
    monkeypatch.setattr(CodedReader, "read", read)
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        assert far.start(session=name)["next_sequence"] == 1
        far.send(data[5000:])
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert events[-2]["end"] == pytest.approx(2, abs=0.05)
