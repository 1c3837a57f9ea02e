"""WS /v1/models/{model}/stream: sound and pictures in as they come, answers out as they ripen (docs/streaming.md)."""

import asyncio
import base64
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.api.messages import START, Start, parse
from app.api.problems import answer, no_such_stream
from app.api.websocket import RETRY, SocketConnection, code_of
from app.engine.connection import POLICY, Event, SessionClosed
from app.engine.live import Live
from app.engine.sessions import Sessions
from app.errors import BadRequest, Forbidden, ServiceError, Unavailable, UpgradeRequired, WrongFields
from app.log import log

if TYPE_CHECKING:
    from models.pipeline import Pipeline

_START_SECONDS = 10.0


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
            await socket.send_denial_response(no_such_stream(socket.url.path))
        else:
            try:
                await _serve(socket, self.sessions, found["path_params"]["model"])
            except asyncio.CancelledError:
                # By a server that stops, which uvicorn would call an error of the application's.
                if not self.sessions.service.draining:
                    raise


async def _serve(socket: WebSocket, sessions: Sessions, model: str) -> None:
    """One connection of one session."""
    refused = sessions.service.metrics.stream_refused
    if (refusal := _refusal(socket.headers, sessions.service.settings.cors_origins)) is not None:
        refused.labels(refusal.kind).inc()
        await socket.send_denial_response(answer(refusal))
        return
    await socket.accept()
    connection = SocketConnection(socket)
    try:
        live = await _begin(sessions, model, await _first(socket), connection)
    except WebSocketDisconnect:
        return
    except Exception as error:  # noqa: BLE001 - the last place before the socket: the client is told, and the log
        said = error if isinstance(error, ServiceError) else _unforeseen(error)
        refused.labels(said.kind).inc()
        await connection.close(code_of(said), said)
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
    raise UpgradeRequired


_PATH = "/v1/models/{model}/stream"
_route = WebSocketRoute(_PATH, _serve)
plain = Route(_PATH, _plain, methods=["GET"])
"""For requests that ask for no WebSocket."""


async def _carry(sessions: Sessions, live: Live, connection: SocketConnection) -> None:
    """Let both ends talk until one of them stops."""
    reading = asyncio.create_task(connection.read(live, sessions.bounds.chunk_bytes))
    writing = connection.writing = asyncio.create_task(connection.write(live))
    try:
        await asyncio.wait([reading, writing], return_when=asyncio.FIRST_COMPLETED)
        code, error = _outcome(connection, reading, writing)
        if code is not None:
            if error is not None or live.connection is connection:
                live.finish(code)
            await connection.close(code, error)
    finally:
        # No waiting here: whoever cancels this must not keep it from tidying up.
        for task in (reading, writing):
            task.cancel()
            task.add_done_callback(_forgotten)
        live.detach(connection)
        # One whose client left before it was told the id is one that nobody can come back to.
        if live.over is not None or (live.connection is None and not connection.is_greeted):
            sessions.remove(live)


def _outcome(
    connection: SocketConnection, reading: "asyncio.Task[None]", writing: "asyncio.Task[int]"
) -> tuple[int | None, ServiceError | None]:
    """The code to close with, and what to say before; no code where the far end has left."""
    if reading.done() and (error := reading.exception()) is not None:
        if isinstance(error, SessionClosed):
            return error.code, error.error
        return POLICY, _unforeseen(error)
    if connection.code is not None:
        return connection.code, None
    # What cannot be said any more is no error of the server's.
    if writing.done() and writing.exception() is None:
        return writing.result(), None
    return None, None


def _unforeseen(error: BaseException) -> ServiceError:
    """Log what nobody expected: what its client is told."""
    log.exception("unexpected error in a stream", exc_info=error)
    return ServiceError("The server failed on this session.", "Start a new one.")


def _forgotten(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()


async def _begin(sessions: Sessions, model: str, first: str, connection: SocketConnection) -> Live:
    """The session that the first message asks for, attached to the connection, and its welcome on the way.

    Raises:
        ServiceError: there is none.
    """
    start = parse(START, first, sessions.start_bytes)
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
        raise Unavailable(f"The model was not ready within {seconds:g} seconds.", RETRY) from error
    live = await sessions.start(pipeline, start.modalities, start.options, _decoded(start.state), start.received)
    try:
        live.greeting = _greeting(live, sessions.advice(live), pipeline)
    except BaseException:
        # Nobody knows its id, to come back to it.
        sessions.remove(live, "error")
        raise
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
