"""What waits of a session is bounded, whatever its client sends, and leaves unsent or untaken."""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.engine.bounds import SessionBounds
from app.engine.live import Live
from models.pipeline import Pipeline
from models.streaming.checkpoint import streams_of
from models.streaming.session import Session
from tests.app.stream.conftest import PATH, FarEnd, pcm, serving, sessions_of
from tests.models.streaming.live import save_live
from tests.models.streaming.sounds import RATE, babble
from tests.support import tiny_captioner

LIPS = "/v1/models/live/stream"
BOTH = {"audio": {"encoding": "pcm_s16le", "sample_rate": RATE}, "video": {"encoding": "jpeg"}}
BOUNDS = SessionBounds(chunk_bytes=2**18, window_bytes=2**18, events=256, idle_seconds=30, total_seconds=60)


@pytest.fixture(scope="module")
def lips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service with a transcriber of lips and sound."""
    with serving(model_dir=[save_live(tmp_path_factory.mktemp("zoo") / "live")]) as client:
        yield client


async def offload(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def live_of(session: Session, take: Callable[[Callable[[], Any]], Awaitable[Any]] = offload) -> Live:
    """A session whose lane does nothing, as while its client takes no events."""
    return Live(session, {}, BOUNDS, lambda _: None, take)


def grey() -> bytes:
    file = io.BytesIO()
    Image.new("L", (64, 64), 128).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("size", [2**18, 2**12])
def test_sound_without_its_pictures_ends_the_session_and_names_them(lips: TestClient, size: int) -> None:
    with lips.websocket_connect(LIPS) as socket:
        far = FarEnd(socket)
        far.start(modalities=BOTH)
        (live,) = sessions_of(lips).lives.values()
        for _ in range(2**21 // size):
            far.send(bytes(size))
        events, code = far.rest()
    assert code == 1008
    error = events[-1]
    assert error["modality"] == "video"
    assert error["limit"] == "1048576 bytes, decoded"
    assert "audio came so far ahead of its video" in error["detail"]
    assert "start a session with audio alone" in error["remedy"]
    assert live.session.held < 2**20 + 2**20


def test_pictures_that_promise_many_frames_count_as_those(lips: TestClient) -> None:
    with lips.websocket_connect(LIPS) as socket:
        far = FarEnd(socket)
        far.start(modalities=BOTH)
        for number in range(100):
            far.send(b"x", modality=1, seconds=9.9 * number)
        events, code = far.rest()
    assert code == 1008
    assert events[-1]["modality"] == "audio"


def test_a_camera_may_be_late_by_as_long_as_pictures_may_be_apart(lips: TestClient) -> None:
    with lips.websocket_connect(LIPS) as socket:
        far = FarEnd(socket)
        far.start(modalities=BOTH)
        far.send(grey(), modality=1, seconds=0.0)
        for _ in range(124):
            far.send(pcm(babble(0.08)))
        far.send(grey(), modality=1, seconds=9.9)
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert events[-2]["end"] == pytest.approx(9.92, abs=0.05)


def test_chunks_of_nothing_and_their_warnings_fill_the_room(tmp_path: Path) -> None:
    streams = streams_of(Pipeline.load(tiny_captioner(tmp_path / "captioner")))
    session = streams.session(streams.options(), streams.readers({"image": {"encoding": "jpeg"}}))

    async def send() -> Live:
        live = live_of(session)
        for number in range(1000):
            if live.room.is_set():
                await live.take("image", number, b"", 0.0)
        return live

    live = asyncio.run(send())
    assert not live.room.is_set()
    assert 200 < len(live._outbox) <= 257


def test_messages_are_read_no_faster_than_they_are_answered() -> None:
    with (
        serving(stream_events=4, stream_idle_seconds=2) as client,
        client.websocket_connect(PATH) as socket,
    ):
        far = FarEnd(socket)
        far.start(options={"threshold": 0.05, "refractory": 0, "smoothing": 0}, credit=0)
        (live,) = sessions_of(client).lives.values()
        far.send_sound(babble(3, 2))
        for _ in range(1000):
            far.say("session.export")
            far.say("session.flush")
        until = time.monotonic() + 20
        while live.over is None:
            assert time.monotonic() < until
            assert len(live.session._inbox) <= 300
            assert len(live._outbox) <= 8
            time.sleep(0.01)
        assert far.rest()[1] == 1008


def test_states_that_are_not_taken_stall_a_session_before_they_are_many(tmp_path: Path) -> None:
    streams = streams_of(Pipeline.load(tiny_captioner(tmp_path / "captioner")))
    session = streams.session(streams.options(), streams.readers({"image": {"encoding": "jpeg"}}))
    woken: list[Live] = []

    async def say() -> None:
        live = Live(session, {}, BOUNDS, woken.append, offload)
        stalled = [live.stalled]
        for _ in range(3):
            live.say({"type": "session.exported", "state": "A" * 400_000})
            stalled.append(live.stalled)
        assert not woken
        assert live.next_event() is not None
        assert [*stalled, live.stalled] == [False, False, False, True, False]
        assert woken == [live]

    asyncio.run(say())
