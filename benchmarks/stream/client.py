"""Many streaming clients in one process, as light as can be, so that it is the server that is measured."""

import asyncio
import base64
import json
import os
import struct
import time
from dataclasses import dataclass, field
from typing import Any

_CHUNK = struct.Struct("<IB3xd")


@dataclass(slots=True)
class Load:
    """What was measured of all clients: seconds from a chunk's sending to the answer that it completes."""

    lags: list[float] = field(default_factory=list)
    expected: int = 0
    failed: int = 0

    def quantile(self, share: float) -> float:
        """Of the lags; infinite if answers are missing."""
        missing = max(self.expected - len(self.lags), 0)
        ordered = [*sorted(self.lags), *[float("inf")] * missing]
        return ordered[min(round(share * len(ordered)), len(ordered) - 1)] if ordered else float("inf")


def framed(opcode: int, payload: bytes) -> bytes:
    """A WebSocket's frame. Its mask is of zeros: masking would be the client's work, not the server's."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    if size > 65_535:
        length = b"\xff" + size.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + length + b"\0\0\0\0" + payload


class Client(asyncio.Protocol):
    """One WebSocket: frames to send are ready as bytes, and of those that come only what is needed is read."""

    def __init__(self, host: str, path: str, start: dict[str, Any]) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.started = asyncio.get_running_loop().create_future()
        self.sent: list[float] = []
        self.lags: list[float] = []
        self.answered = 0
        self.chunk_seconds = 0.0
        self.counting = False
        self._host, self._path, self._start = host, path, start
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {self._path} HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        """Take frames apart."""
        now = time.perf_counter()
        self._buffer += data
        if not self._upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.transport.abort()
                return
            self._upgraded, self._buffer = True, rest
            self.send(1, json.dumps({"type": "session.start", **self._start}).encode())
        while (frame := self._frame()) is not None:
            self._heard(*frame, now)

    def connection_lost(self, error: Exception | None) -> None:
        """A start that is waited for fails."""
        if not self.started.done():
            self.started.set_exception(ConnectionError(str(error or "closed before it started")))
            self.started.exception()

    def send(self, opcode: int, payload: bytes) -> None:
        """One frame."""
        self.transport.write(framed(opcode, payload))

    def send_chunk(self, payload: bytes) -> None:
        """The next chunk."""
        self.sent.append(time.perf_counter())
        self.send(2, _CHUNK.pack(len(self.sent) - 1, 0, 0.0) + payload)

    async def until(self, kind: str) -> dict[str, Any]:
        """The next event of a kind; those before it are passed over, and partial answers and credit never noted."""
        while (event := await self.events.get())["type"] != kind:
            pass
        return event

    def _frame(self) -> tuple[int, bytes] | None:
        data = self._buffer
        if len(data) < 2:
            return None
        size, at = data[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + size:
            return None
        self._buffer = data[at + size :]
        return data[0] & 15, data[at : at + size]

    def _heard(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 9:
            self.send(10, payload)
        if opcode != 1:
            return
        if self.counting and payload.startswith(b'{"type":"partial","time":'):
            seconds = float(payload[25 : payload.index(b",", 25)])
            # It answers all chunks that end by then: an answer that is not taken yet gives way to the next.
            answered = min(int(seconds / self.chunk_seconds + 1e-6), len(self.sent))
            self.lags += [now - sent for sent in self.sent[self.answered : answered]]
            self.answered = answered
        elif payload.startswith(b'{"type":"session.started"'):
            if not self.started.done():
                self.started.set_result(json.loads(payload))
        elif not payload.startswith((b'{"type":"partial"', b'{"type":"credit"')):
            self.events.put_nowait(json.loads(payload))


async def dial(address: str, model: str, start: dict[str, Any]) -> Client:
    """A connection on which a session will start."""
    host, port = address.split(":")
    loop = asyncio.get_running_loop()
    path = f"/v1/models/{model}/stream"
    _, client = await loop.create_connection(lambda: Client(address, path, start), host, int(port))
    return client


async def connect(address: str, model: str, start: dict[str, Any]) -> Client:
    """A session that has started."""
    client = await dial(address, model, start)
    await asyncio.wait_for(client.started, 60)
    return client


async def talk(address: str, model: str, streams: int, seconds: float, sound: bytes, chunk_seconds: float) -> Load:
    """So many sessions at once, in real time; each asks for an answer to every chunk.

    ``sound``: pcm_s16le at 16 kHz, of which each session sends another stretch, over and over.
    """
    interim = {"interim": chunk_seconds, "top_k": 1}
    start = {"modalities": {"audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}}, "options": interim}
    size = round(chunk_seconds * 16_000) * 2
    load = Load()
    clients: list[Client] = []
    for first in range(0, streams, 50):
        opening = [connect(address, model, start) for _ in range(first, min(first + 50, streams))]
        for opened in await asyncio.gather(*opening, return_exceptions=True):
            if isinstance(opened, Client):
                opened.chunk_seconds = chunk_seconds
                clients.append(opened)
            else:
                load.failed += 1
    began = time.perf_counter() + 0.2

    async def one(number: int, client: Client) -> None:
        at = (number * 7919 * size) % len(sound)
        due = began + chunk_seconds * number / max(len(clients), 1)
        for turn in range(round(seconds / chunk_seconds)):
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            # The first second is for the machine to settle.
            if turn * chunk_seconds >= 1 and not client.counting:
                client.counting, client.answered = True, turn
            if client.counting:
                load.expected += 1
            client.send_chunk((sound[at : at + size] + sound)[:size])
            at = (at + size) % len(sound)
            due += chunk_seconds
        await asyncio.sleep(1)
        client.transport.abort()

    await asyncio.gather(*(one(number, client) for number, client in enumerate(clients)))
    for client in clients:
        load.lags += client.lags
    return load
