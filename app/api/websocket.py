"""One WebSocket of a streaming session: what comes is taken in, and what there is to say is said.

docs/streaming.md describes the messages. Text frames are JSON objects with a ``type``; binary frames are chunks.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from starlette.websockets import WebSocket, WebSocketDisconnect

from app.api.messages import MODALITIES, SAID, Credit, End, Export, parse
from app.chunk import HEADER
from app.engine.connection import POLICY, TOO_LARGE, TRY_LATER, Event, SessionClosed, error_event
from app.engine.live import Live
from app.engine.stepper import exported
from app.errors import BadRequest, ServiceError, TooLarge, Unavailable
from models.streaming.errors import BadChunk, Busy

RETRY = 10
"""Seconds after which a client that found too much going on may come back."""
_CLOSE_SECONDS = 5.0


class SocketConnection:
    """One WebSocket: ``Connection`` of the session that it carries."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.code: int | None = None
        """What it is to be closed with, whatever there is still to say."""
        self.writing: asyncio.Task[int] | None = None
        self.is_greeted = False
        """Whether the far end was told which session it has."""
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    def hang_up(self, code: int) -> None:
        self.code = code
        # It may wait for a far end that reads nothing.
        if self.writing is not None:
            self.writing.cancel()

    async def send(self, event: Event) -> None:
        await self.socket.send_text(json.dumps(event, ensure_ascii=False, separators=(",", ":")))

    async def write(self, live: Live) -> int:
        """Say what there is to say until the session is over; returns the close code."""
        while live.over is None or not live.silent:
            if (event := live.next_event()) is not None:
                await self.send(event)
                self.is_greeted = True
            else:
                await self._wake.wait()
                self._wake.clear()
        return live.over

    async def read(self, live: Live, chunk_bytes: int) -> None:
        """Take what comes until the far end leaves.

        Raises:
            SessionClosed: it sent what cannot be taken.
        """
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if live.connection is not self:
                continue
            live.heard = live.loop.time()
            if (data := message.get("bytes")) is not None:
                await _chunk(live, data, chunk_bytes)
            else:
                await _told(live, message["text"], chunk_bytes)
            await live.room.wait()
            # What came meanwhile has not been looked at yet.
            live.heard = live.loop.time()

    async def close(self, code: int, error: ServiceError | None = None) -> None:
        """Say why, and close; a far end that does not listen is not waited for."""
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(_CLOSE_SECONDS):
                if error is not None:
                    await self.send(error_event(error))
                await self.socket.close(code)


def code_of(error: ServiceError) -> int:
    """What a connection is closed with for a problem."""
    return TRY_LATER if isinstance(error, Unavailable) else TOO_LARGE if isinstance(error, TooLarge) else POLICY


async def _chunk(live: Live, data: bytes, most: int) -> None:
    if live.over is not None:
        return
    if len(data) > most + HEADER.size:
        limit = f"{most} bytes"
        error = TooLarge(f"A chunk of {len(data)} bytes came.", "Send smaller chunks.", limit=limit)
        raise SessionClosed(TOO_LARGE, error)
    if len(data) < HEADER.size:
        short = BadRequest("A chunk is shorter than its header.", f"Begin it with {HEADER.size} bytes.")
        raise SessionClosed(POLICY, short)
    sequence, number, seconds = HEADER.unpack_from(data)
    modality = MODALITIES[number] if number < len(MODALITIES) else None
    if modality is None or modality not in live.session.readers:
        said = f"Chunk {sequence} is of modality {modality or number}, which this session does not have."
        raise SessionClosed(POLICY, BadRequest(said, "Send what session.start names."))
    with _refusing(f"Chunk {sequence}", modality):
        await live.take(modality, sequence, data[HEADER.size :], seconds)


@contextmanager
def _refusing(what: str, modality: str | None = None) -> Iterator[None]:
    """Let a medium that cannot be used end its session."""
    try:
        yield
    except BadChunk as error:
        bad = BadRequest(f"{what}: {error}.", "Start a new session.", modality=modality)
        raise SessionClosed(POLICY, bad) from error
    except Busy as error:
        raise SessionClosed(TRY_LATER, Unavailable(str(error), RETRY)) from error


async def _told(live: Live, text: str, most: int) -> None:
    try:
        message = parse(SAID, text, most)
    except ServiceError as error:
        raise SessionClosed(code_of(error), error) from error
    if isinstance(message, Credit):
        if message.events:
            live.more_events(message.events)
        if message.received is not None:
            live.confirm(message.received)
    elif isinstance(message, Export):
        live.export(lambda state: None if state is None else live.say(exported(live, state)))
    elif not live.ending:
        with _refusing("The end"):
            await live.close_utterance("end" if isinstance(message, End) else "flush")
