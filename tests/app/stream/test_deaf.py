"""A client that reads nothing loses its session, and its socket, when its time is over."""

import asyncio
import base64
import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from app.chunk import HEADER
from app.protocol import WebSocketProtocol
from tests.app.stream.conftest import PATH, S16, pcm, server
from tests.models.streaming.sounds import babble

ENOUGH = 1000
"""States of ten kilobytes each: more than the sockets between the two hold."""


def text(**message: Any) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)


def deaf(host: str, port: int) -> socket.socket:
    """A client whose socket holds next to nothing, in a session."""
    far = socket.socket()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    far.connect((host, port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = [f"GET {PATH} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
    head += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
    far.sendall("\r\n".join([*head, "", ""]).encode())
    far.recv(4096)
    far.sendall(text(type="session.start", modalities=S16))
    chunk = HEADER.pack(0, 0, 0.0) + pcm(babble(2))
    far.sendall(Frame(Opcode.BINARY, chunk).serialize(mask=True))
    return far


def within(seconds: float, happened: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(0.2)
    return happened()


def test_a_client_that_reads_nothing_loses_its_session_and_its_socket(tmp_path: Path) -> None:
    with server(tmp_path / "errors", STREAM_IDLE_SECONDS="2") as (process, url):
        host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0

        def metrics(line: str) -> bool:
            with urllib.request.urlopen(f"http://{host}:{port}/metrics") as answer:
                return line in answer.read().decode().splitlines()

        def held() -> int:
            return sum(link.readlink().name.startswith("socket:") for link in Path(f"/proc/{process.pid}/fd").iterdir())

        before = held()
        with deaf(host, port) as far:
            assert within(10, lambda: metrics("fusionrnn_stream_sessions 1.0"))
            far.settimeout(0.5)
            # The server does not take them all.
            with suppress(OSError):
                far.sendall(text(type="session.export") * ENOUGH)
            assert within(30, lambda: metrics("fusionrnn_stream_sessions 0.0"))
            assert metrics('fusionrnn_stream_ended_total{reason="slow"} 1.0')

            # Its connection is let go of with all that was still to be sent, after as long as a handshake may take.
            assert within(30, lambda: held() == before)


def test_no_timer_keeps_a_connection_that_is_lost() -> None:
    class Line(asyncio.Transport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return default

        def close(self) -> None:
            """Nothing to close."""

    async def test() -> None:
        async def over() -> None:
            """What the application had to do."""

        config = Config(lambda: None, ws=WebSocketProtocol, log_config=None)
        config.load()
        task = asyncio.create_task(over())
        await task
        left, stays = (WebSocketProtocol(config, ServerState(), {}) for _ in range(2))
        for line in (left, stays):
            line.connection_made(Line())
        left.connection_lost(None)
        left.on_task_complete(task)
        assert left._letting_go is None
        stays.on_task_complete(task)
        timer = stays._letting_go
        assert timer is not None
        stays.connection_lost(None)
        assert timer.cancelled()
        assert stays._letting_go is None

    asyncio.run(test())
