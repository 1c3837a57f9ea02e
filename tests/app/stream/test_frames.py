"""Frames that no library for clients would send."""

import json
import logging
import os
import socket
from base64 import b64encode
from collections.abc import Iterator

import pytest
from websockets.server import ServerProtocol

from app.protocol import _FRAGMENTS, _PIECE, WebSocketProtocol
from app.settings import ZOO
from tests.app.conftest import running_server
from tests.app.stream.conftest import PATH, S16

START = json.dumps({"type": "session.start", "modalities": S16}).encode()
TEXT, MORE, PONG = 1, 0, 10


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a server listens."""
    with running_server(ZOO / "voice-commands") as (address, _):
        yield address


def connected(address: str) -> socket.socket:
    """A WebSocket, of which nothing but the handshake is done."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(
        f"GET {PATH} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n\r\n".encode()
    )
    assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
    return connection


def frame(kind: int, data: bytes, *, last: bool = True) -> bytes:
    """One frame of a client, masked with zeros."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else bytes([0xFE]) + len(data).to_bytes(2, "big")
    return bytes([kind | 0x80 * last]) + size + b"\0\0\0\0" + data


def test_a_message_in_many_fragments_is_put_together(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most: list[int] = []
    real = WebSocketProtocol.handle_cont

    def noted(self: WebSocketProtocol, event: object) -> None:
        real(self, event)  # type: ignore[arg-type]
        most.append(len(self.frames))

    monkeypatch.setattr(WebSocketProtocol, "handle_cont", noted)
    empty = frame(MORE, b"", last=False) * (3 * _FRAGMENTS)
    with connected(address) as connection:
        connection.sendall(frame(TEXT, START[:20], last=False) + empty + frame(MORE, START[20:]))
        assert b"session.started" in connection.recv(4096)
    assert len(most) == 3 * _FRAGMENTS + 1
    assert max(most) <= _FRAGMENTS


def test_empty_frames_without_number_hold_up_nobody_for_long(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read in pieces, one a turn of the event loop, whatever came at once."""
    sizes: list[int] = []
    real = ServerProtocol.receive_data

    def noted(self: ServerProtocol, data: bytes) -> None:
        sizes.append(len(data))
        real(self, data)

    monkeypatch.setattr(ServerProtocol, "receive_data", noted)
    count = 20_000
    with connected(address) as connection:
        flood = frame(PONG, b"") * count + frame(TEXT, START) + frame(PONG, b"") * count
        connection.sendall(flood + frame(TEXT, b'{"type": "session.end"}'))
        heard = b""
        while b"session.ended" not in heard:
            heard += connection.recv(4096)
    assert b"session.started" in heard
    assert max(sizes) <= _PIECE
    assert sum(sizes) > 2 * count * len(frame(PONG, b""))


def test_text_that_is_none_ends_the_connection_and_fills_no_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), connected(address) as connection:
        connection.sendall(frame(TEXT, b"\xff\xfe"))
        assert connection.recv(4096)[2:4] == (1007).to_bytes(2, "big")
    assert not caplog.records
