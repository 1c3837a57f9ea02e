"""A session that waits for the server is not idle, and one whose client has had nothing to take is not slow."""

import asyncio
import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.api.websocket import SocketConnection
from app.chunk import HEADER
from app.engine.live import Live
from app.server import Server
from app.settings import Settings
from tests.app.conftest import service
from tests.app.stream.test_reading import Slow, dropped, run


def test_while_a_chunk_is_read_or_cannot_be_a_session_is_not_idle() -> None:
    async def test(live: Live, reader: Slow) -> None:
        late = live.loop.time() + 31
        assert live.overdue(late) == (1000, "idle")
        await dropped(live, reader, b"abc")
        assert live.overdue(late) is None
        reader.may.set()
        await live.settled()
        assert live.overdue(late) == (1000, "idle")
        live.room.clear()
        assert live.overdue(late) is None

    run(test)


def test_time_in_which_the_server_reads_is_not_the_clients() -> None:
    class Socket:
        """Brings one chunk, and leaves."""

        def __init__(self) -> None:
            chunk = HEADER.pack(0, 0, 0.0) + b"abc"
            brought: dict[str, Any] = {"type": "websocket.receive", "bytes": chunk}
            self.messages = [brought, {"type": "websocket.disconnect"}]

        async def receive(self) -> dict[str, Any]:
            return self.messages.pop(0)

    async def test(live: Live, reader: Slow) -> None:
        line = SocketConnection(Socket())  # type: ignore[arg-type]
        live.connection = line
        reading = asyncio.create_task(line.read(live, 1000))
        assert await asyncio.to_thread(reader.began.wait, 10)
        live.heard -= 100
        reader.may.set()
        await reading
        assert live.overdue(live.loop.time()) is None

    run(test)


def test_who_is_out_of_credit_has_its_time_from_when_something_waits() -> None:
    async def test(live: Live, _: Slow) -> None:
        live.connection = SocketConnection(None)  # type: ignore[arg-type]
        live.more_events(0)
        live.taken -= 100
        live.say({"type": "final"})
        now = live.heard = live.loop.time()
        assert live.overdue(now) is None
        assert live.overdue(now + 31) == (1008, "slow")

    run(test)


def test_nothing_follows_the_end_of_a_session() -> None:
    async def test(live: Live, _: Slow) -> None:
        live.say({"type": "partial"})
        live.finish(1000, {"type": "session.ended", "reason": "total"})
        live.say({"type": "partial"})
        live.say({"type": "final"})
        assert [live.next_event(), live.next_event()] == [{"type": "session.ended", "reason": "total"}, None]
        assert (live.said, live.reason) == (0, "total")

    run(test)


def test_chunks_do_not_wait_behind_files(commands: TestClient) -> None:
    runner, may = service(commands).runner, threading.Event()

    async def test() -> bool:
        files = [asyncio.create_task(runner.offload(lambda: may.wait(20))) for _ in range(64)]
        await asyncio.sleep(0)
        found = await asyncio.wait_for(runner.read(lambda: True), 10)
        may.set()
        await asyncio.gather(*files)
        return found

    assert commands.portal is not None
    assert commands.portal.call(test)


@pytest.mark.parametrize(("idle", "patience"), [(5, 20), (50, 50)])
def test_a_connection_lasts_as_long_as_its_session_may_be_idle(
    idle: float, patience: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("app.server.configure_logging", lambda _: None)
    server = Server(Settings(model_dir=[tmp_path], stream_idle_seconds=idle), lambda *_: None)
    assert server.config.ws_ping_timeout == patience
