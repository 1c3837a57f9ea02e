"""WS /v1/models/{model}/stream: sound and pictures in as they come, answers out as they ripen.

docs/streaming.md describes the messages. Text frames are JSON objects with a ``type``; binary frames are chunks: a
header of 16 bytes (sequence number u32, modality u8, three bytes 0, seconds f64, all little-endian), then the medium.
"""

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from app import errors
from app.api.messages import MODALITIES, SAID, START, Credit, End, Export, Flush, Start, parse
from app.engine.connection import POLICY, TOO_LARGE, TRY_LATER, Event, SessionClosed, error_event
from app.engine.live import Live
from app.engine.sessions import Sessions
from app.engine.stepper import exported
from app.errors import BadRequest, Forbidden, ServiceError, TooLarge, Unavailable, WrongFields
from app.telemetry import log
from models.streaming.errors import BadChunk, Busy

if TYPE_CHECKING:
    from models.pipeline import Pipeline

HEADER = struct.Struct("<IB3xd")
_START_SECONDS = 10.0
_CLOSE_SECONDS = 5.0
_RETRY = 10


class _SocketConnection:
    """One WebSocket: ``Connection`` of the session that it carries."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.code: int | None = None
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self._wake.set()

    def hang_up(self, code: int) -> None:
        self.code = code
        self._wake.set()

    async def send(self, event: Event) -> None:
        await self.socket.send_text(json.dumps(event, ensure_ascii=False, separators=(",", ":")))

    async def write(self, live: Live) -> int:
        """Say what there is to say until the session is over, or goes on elsewhere; returns the close code."""
        while self.code is None:
            if (event := live.next_event()) is not None:
                await self.send(event)
            elif live.over is not None and live.silent:
                return live.over
            else:
                await self._wake.wait()
                self._wake.clear()
        return self.code

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


class Streams:
    """Serves the WebSockets of sessions, and refuses others; whatever else comes goes on to ``app``.

    A middleware and no route: each connection would hold, for its whole life, what stands between the two for requests.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self.app, self.sessions = app, sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        socket = WebSocket(scope, receive, send)
        match, found = _route.matches(scope)
        if match is Match.NONE:
            await socket.send_denial_response(errors.no_such_stream(socket.url.path))
        else:
            await _serve(socket, self.sessions, found["path_params"]["model"])


async def _serve(socket: WebSocket, sessions: Sessions, model: str) -> None:
    """One connection of one session."""
    refused = sessions.service.metrics.stream_refused
    if (refusal := _refusal(socket.headers, sessions.service.settings.cors_origins)) is not None:
        refused.labels(refusal.kind).inc()
        await socket.send_denial_response(refusal.response())
        return
    await socket.accept()
    connection = _SocketConnection(socket)
    try:
        live = await _begin(sessions, model, await _first(socket), connection)
    except WebSocketDisconnect:
        return
    except ServiceError as error:
        refused.labels(error.kind).inc()
        await _close(connection, _code(error), error)
        return
    await _carry(sessions, live, connection)


async def _first(socket: WebSocket) -> str:
    """The first message.

    Raises:
        BadRequest: it is none that begins anything.
        WebSocketDisconnect: the far end left instead.
    """
    remedy = "Begin with session.start."
    try:
        async with asyncio.timeout(_START_SECONDS):
            return await socket.receive_text()
    except KeyError as error:
        raise BadRequest("The first message is no text.", remedy) from error
    except TimeoutError as error:
        raise BadRequest(f"Nothing came within {_START_SECONDS:g} seconds.", remedy) from error


def _code(error: ServiceError) -> int:
    """What a connection is closed with for a problem."""
    return TRY_LATER if isinstance(error, Unavailable) else TOO_LARGE if isinstance(error, TooLarge) else POLICY


def _refusal(headers: Headers, allowed: list[str]) -> ServiceError | None:
    """Why a page may not open a session: browsers let any page try, also on its visitor's own machine."""
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return None
    with suppress(ValueError):  # No address at all.
        if (host := urlsplit(origin).netloc) and host in (headers.get("host"), headers.get("x-forwarded-host")):
            return None
    remedy = "Name it in FUSIONRNN_CORS_ORIGINS, or, if it is this server's own, let the proxy pass the header Host."
    return Forbidden(f"Pages of {origin} may not open sessions here.", remedy)


async def _plain(_: Request) -> Response:
    raise errors.UpgradeRequired


_PATH = "/v1/models/{model}/stream"
_route = WebSocketRoute(_PATH, _serve)
plain = Route(_PATH, _plain, methods=["GET"])
"""For requests that ask for no WebSocket."""


async def _carry(sessions: Sessions, live: Live, connection: _SocketConnection) -> None:
    """Let both ends talk until one of them stops."""
    reading = asyncio.create_task(connection.read(live, sessions.bounds.chunk_bytes))
    writing = asyncio.create_task(connection.write(live))
    try:
        await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        code, error = _outcome(reading, writing)
        if code is not None:
            if error is not None or live.connection is connection:
                live.finish(code)
            await _close(connection, code, error)
    finally:
        # No waiting here: whoever cancels this must not keep it from tidying up.
        for task in (reading, writing):
            task.cancel()
            task.add_done_callback(_forgotten)
        live.detach(connection)
        if live.over is not None:
            sessions.remove(live)


def _outcome(reading: "asyncio.Task[None]", writing: "asyncio.Task[int]") -> tuple[int | None, ServiceError | None]:
    """The code to close with, and what to say before; no code where the far end has left."""
    if reading.done() and (error := reading.exception()) is not None:
        if isinstance(error, SessionClosed):
            return error.code, error.error
        log.exception("unexpected error in a stream", exc_info=error)
        return POLICY, ServiceError("The server failed on this session.", "Start a new one.")
    # What cannot be said any more is no error of the server's.
    if writing.done() and writing.exception() is None:
        return writing.result(), None
    return None, None


def _forgotten(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


async def _begin(sessions: Sessions, model: str, first: str, connection: _SocketConnection) -> Live:
    """The session that the first message asks for, attached to the connection, and its welcome on the way.

    Raises:
        ServiceError: there is none.
    """
    start: Start = parse(START, first, sessions.start_bytes)
    live = await (_new(sessions, model, start) if start.session is None else _known(sessions, model, start))
    try:
        live.attach(connection, None if start.session is None else start.received or 0)
    except ValueError as error:
        raise WrongFields(f"{error}.", "Go on from an exported state, or start anew.", field="received") from error
    if start.credit is not None:
        live.more_events(start.credit)
    return live


async def _new(sessions: Sessions, model: str, start: Start) -> Live:
    """A new session, or one that goes on from an exported state."""
    sessions.service.check_ready()
    if start.state is not None and (start.modalities or start.options):
        said = "A session that goes on from a state keeps its modalities and options."
        raise WrongFields(said, "Send state and received alone.", field="state")
    seconds = sessions.service.settings.deadline_seconds
    try:
        async with asyncio.timeout(seconds):
            pipeline = await sessions.service.swaps.awake(model)
    except TimeoutError as error:
        raise Unavailable(f"The model was not ready within {seconds:g} seconds.", _RETRY) from error
    live = await sessions.start(pipeline, start.modalities, start.options, _decoded(start.state), start.received)
    live.greeting = _greeting(live, sessions.advice(live), pipeline)
    return live


async def _known(sessions: Sessions, model: str, start: Start) -> Live:
    """One that lost its connection, whether or not its checkpoint is still served."""
    assert start.session is not None
    if start.modalities or start.options or start.state:
        said = "A session that is taken up again keeps its modalities and options."
        raise WrongFields(said, "Send session and received alone.", field="session")
    await sessions.find(start.session).settled()
    live = sessions.find(start.session)
    if (own := live.greeting["model"]) != model:
        raise WrongFields(
            f"The session is one of the model '{own}'.", f"Take it up at /v1/models/{own}/stream.", field="session"
        )
    return live


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
        raise SessionClosed(TRY_LATER, Unavailable(str(error), _RETRY)) from error


async def _told(live: Live, text: str, most: int) -> None:
    try:
        message: Flush | End | Export | Credit = parse(SAID, text, most)
    except ServiceError as error:
        raise SessionClosed(_code(error), error) from error
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


def _decoded(state: str | None) -> bytes | None:
    if state is None:
        return None
    try:
        return base64.b64decode(state, validate=True)
    except ValueError as error:  # of base64's own kind, or because it is not ASCII
        raise WrongFields("The state is not base64.", "Send it as it was exported.", field="state") from error


def _greeting(live: Live, advice: Event, pipeline: "Pipeline") -> Event:
    """What session.started says, but for how far the session is."""
    bounds, config = live.bounds, pipeline.config
    return {
        "type": "session.started",
        "session": live.id,
        "model": config.name,
        "version": config.version,
        "digest": pipeline.digest,
        "credit": bounds.window_bytes,
        "chunk": advice,
        "limits": {
            "chunk_bytes": bounds.chunk_bytes,
            "idle_seconds": bounds.idle_seconds,
            "total_seconds": bounds.total_seconds,
            "events": bounds.events,
        },
    }


async def _close(connection: _SocketConnection, code: int, error: ServiceError | None = None) -> None:
    """Say why, and close; a far end that does not listen is not waited for."""
    with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
        async with asyncio.timeout(_CLOSE_SECONDS):
            if error is not None:
                await connection.send(error_event(error))
            await connection.socket.close(code)
