"""HTTP as uvicorn speaks it, with bounds on the head of a request, and by the RFCs where uvicorn departs from them."""

import asyncio
import json
import logging
from typing import Any, ClassVar

import httptools
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Response
from websockets.server import ServerProtocol
from websockets.typing import StatusLike

from app.api.problems import PROBLEM, answer
from app.errors import BadRequest, HeadTooLarge, ServiceError, UploadTimeout
from app.log import log

HEAD_BYTES = 2**16
"""Most bytes of a request's first line and headers; those of browsers have a few thousand."""


class BoundedProtocol(HttpToolsProtocol):
    """A connection that is closed where a head does not come, is not ended in time, or does not end at all.

    uvicorn waits for it without an end and keeps all that has come: a client that sends a byte now and then holds a
    socket for good. So it is with what follows a body or an answer, trailers and whatever else. A body itself is
    bounded by ``app.api.uploads``.

    An upgrade that is not taken is ignored (RFC 9110, section 7.8). httptools ends its request at the head, whatever
    body was announced, and uvicorn leaves it so: of a client that offers HTTP/2 no body would arrive.
    """

    head_seconds: ClassVar[float] = 30.0
    """Longest from the connection, or from a head's first byte, to the head's last."""

    _deadline: asyncio.TimerHandle | None = None
    _began = False
    """Whether a head has begun and not ended."""
    _came = 0
    """Bytes since a head or a part of a body was last complete."""
    _moved = False
    _size = 0
    """Bytes of this head, or of these trailers, as far as they are whole lines."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection owes a head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for a head any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes that end nothing count, and so does the time of those that come after an answer."""
        self._moved = False
        self._unset_keepalive_if_required()
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            self._refuse(_refusal(error))
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # a WebSocket's now
            return
        if self._moved:
            self._came = 0
        else:
            self._came += len(data)
            if self._came > HEAD_BYTES:
                self._refuse(self._too_large())
        # uvicorn has stopped its own clock for them, which would have closed an idle connection.
        cycle: RequestResponseCycle | None = self.cycle
        if self._deadline is None and cycle is not None and cycle.response_complete:
            self._expect_head()

    def on_message_begin(self) -> None:
        """On a connection that is used again, the head's time begins with its first byte."""
        super().on_message_begin()
        self._began, self._size = True, 0
        if self._deadline is None:
            self._expect_head()

    def on_url(self, url: bytes) -> None:
        """A part of the first line is there."""
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, is there."""
        self._grow(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._moved = True
        self._stop_waiting()
        if not self._ignores_upgrade():
            super().on_headers_complete()
            self._began, self._size = False, 0

    def on_body(self, body: bytes) -> None:
        """A part of the body is there."""
        self._moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of the request is there."""
        self._moved = True
        if not self._ignores_upgrade():
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if cycle.scope["http_version"] == "1.0":
            app = _unchunked(app, cycle)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _grow(self, nbytes: int) -> None:
        """Count what is kept. A line that comes in one piece is never among the bytes that end nothing.

        Raises:
            HeadTooLarge: it is too much. The parser hands it on as the cause of its own error.
        """
        self._size += nbytes
        if self._size > HEAD_BYTES:
            raise self._too_large()

    def _too_large(self) -> HeadTooLarge:
        what = "first line and the headers" if self._began else "trailers behind the body"
        said = f"The {what} have more than {HEAD_BYTES} bytes."
        return HeadTooLarge(said, "Put data into the body.", limit=f"{HEAD_BYTES} bytes")

    def _parse(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    break
                self._begin_without_upgrade()
                rest = rest[upgrade.args[0] :]
            else:
                break

    def _should_upgrade(self) -> bool:
        """To a WebSocket, and for no request that has a body: whatever reads it waits for the end of a handshake."""
        given = dict(self.headers)
        length, coding = given.get(b"content-length", b"0"), given.get(b"transfer-encoding")
        bodiless = self.parser.get_method() == b"GET" and length == b"0" and coding is None
        return bodiless and super()._should_upgrade()

    def _ignores_upgrade(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _begin_without_upgrade(self) -> None:
        """Read the same head again, by a new parser: the old one takes the request for complete."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":  # an upgrade without its header
            raise httptools.HttpParserInvalidMethodError("CONNECT is for proxies")
        kept = [b"%s: %s\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        head = b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(kept))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.parser.feed_data(head)

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        limit = f"{self.head_seconds:g} seconds"
        said = f"The request's headers did not end within {limit}."
        self._refuse(UploadTimeout(said, "Send them at once.", limit=limit))

    def _refuse(self, error: ServiceError) -> None:
        """Say why, unless that came inside an answer or behind it, and close."""
        self._stop_waiting()
        if self._unanswered():
            self._say(error)
        self.transport.close()

    def _unanswered(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        if self.pipeline:
            return False
        if cycle is None or cycle.response_complete:
            return self._began
        return not cycle.response_started

    def _say(self, error: ServiceError) -> None:
        log.info("refused before the application", status=error.status, detail=error.detail)
        body = bytes(answer(error).body)
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (error.status, error.title.encode(), PROBLEM.encode(), len(body), body)
        )


_HANDSHAKES = logging.getLogger("uvicorn.handshakes")
_HANDSHAKES.setLevel(logging.WARNING)
# What any client can cause is no error, and no traceback.
_HANDSHAKES.addFilter(lambda record: "Invalid UTF-8" not in record.getMessage())
_FRAGMENTS = 1024
"""Of one message, kept apart at most."""
_PIECE = 4096
"""Bytes of frames that are read at a time: hundreds of empty ones, which take as long as one with a chunk's step."""


class _Handshake(ServerProtocol):
    """Says as a problem, and not in plain text, what is wrong with a handshake."""

    def reject(self, status: StatusLike, text: str) -> Response:
        response = super().reject(status, text)
        error = BadRequest(text.strip(), "Send Sec-WebSocket-Version: 13 and a Sec-WebSocket-Key, as RFC 6455 has it.")
        response.body = json.dumps(error.body() | {"status": response.status_code}).encode()
        del response.headers["Content-Type"], response.headers["Content-Length"]
        head = {"Content-Type": PROBLEM, "Content-Length": str(len(response.body)), "Sec-WebSocket-Version": "13"}
        response.headers.update(head)
        return response


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose refusal is an answer, and which ends also for a client that reads nothing.

    uvicorn takes the handshake for unfinished after a refusal, and logs an error: any page could fill the log, just by
    asking. And it closes once all is sent, which of a client that reads nothing is never.
    """

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        # Its lines on handshakes have the client's address and what it asked for; a session's own lines do not.
        self.logger = _HANDSHAKES
        self._letting_go: asyncio.TimerHandle | None = None
        self._rest = bytearray()
        """What came and is not read yet."""
        # As uvicorn makes its own where nothing is compressed.
        self.conn = _Handshake(max_size=config.ws_max_size, logger=self.conn.logger)

    def data_received(self, data: bytes) -> None:
        """Read it in pieces, and let others have their turn in between: a megabyte of empty frames takes seconds."""
        if not self._rest and len(data) <= _PIECE:
            super().data_received(data)
            return
        begins = not self._rest
        self._rest += data
        self.transport.pause_reading()
        if begins:
            self._read_piece()

    def _read_piece(self) -> None:
        if self.transport.is_closing():
            self._rest.clear()
            return
        piece = bytes(self._rest[:_PIECE])
        del self._rest[:_PIECE]
        super().data_received(piece)
        if self._rest:
            self.loop.call_soon(self._read_piece)
        elif not self.read_paused and not self.transport.is_closing():
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """The next message; reading more waits until what came is read."""
        message = await super().receive()
        if self._rest and not self.transport.is_closing():
            self.transport.pause_reading()
        return message

    def handle_cont(self, event: Frame) -> None:
        """A message is bounded in bytes, and not in fragments: empty ones without an end would fill the memory."""
        super().handle_cont(event)
        if len(self.frames) > _FRAGMENTS:
            self.frames = [b"".join(self.frames)]

    async def send(self, message: Any) -> None:
        await super().send(message)
        self.handshake_complete |= self.close_sent

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Let the client have what is on its way, for as long as a closing handshake may take."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._letting_go = self.loop.call_later(self.close_timeout, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is on its way any more, and no timer keeps what belonged to the connection."""
        if self._letting_go is not None:
            self._letting_go.cancel()
            self._letting_go = None
        super().connection_lost(exc)


def _refusal(error: httptools.HttpParserError) -> ServiceError:
    """What a client is told whose bytes are no request."""
    if not isinstance(error, httptools.HttpParserCallbackError):
        return BadRequest(f"This is no HTTP request: {error}.", "Send one as RFC 9112 has it.")
    # Raised in a method of the protocol, and the parser's error has it as its context.
    if isinstance(error.__context__, ServiceError):
        return error.__context__
    return BadRequest("The request's address cannot be read.", "Percent-encode it, and begin it with a slash.")


def _unchunked(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """``app`` for a client of HTTP/1.0, which knows no chunks: an answer of unknown length ends with its connection."""
    unbounded = False

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        async def unchunked(message: Message) -> None:
            nonlocal unbounded
            if message["type"] == "http.response.start":
                unbounded = "content-length" not in Headers(raw=message["headers"])
                cycle.chunked_encoding = False if unbounded else None
            elif unbounded:
                # uvicorn compares the two.
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, unchunked)

    return run
