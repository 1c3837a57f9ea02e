"""A request whose replica died is sent once more: middleware for Ray Serve's proxies.

Where a replica dies before it has begun to answer, Serve's proxy sends nothing and leaves the client with an error.
Every predict request may be repeated, because answering it changes nothing; so the proxy keeps the body while it
passes it on, and gives the request to another replica, once.
"""

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = {"GET", "HEAD", "POST"}
_MOST_BYTES = 64 * 2**20
"""Of a body; a larger one is not kept, and its request not repeated."""


class Retry:
    """ASGI middleware; WebSockets pass through, because their state died with the replica."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, and again if nothing was answered."""
        if scope["type"] != "http" or scope["method"] not in _METHODS or not _repeatable(scope["path"]):
            await self._app(scope, receive, send)
            return
        kept = _Kept(receive)
        answering = _Answering(send)
        try:
            await self._app(dict(scope), kept.receive, answering.send)
        except Exception:
            # Serve's proxy may also raise what became of the replica.
            if answering.begun or not kept.whole:
                raise
        if not answering.begun and kept.whole:
            await self._app(dict(scope), kept.again().receive, send)


def _repeatable(path: str) -> bool:
    """Whether a request changes nothing: collections are written to, and checkpoints loaded and unloaded."""
    return not path.startswith("/v1/collections") and not path.endswith(("/load", "/unload"))


class _Kept:
    """A body on its way in, with a copy for a second time."""

    def __init__(self, receive: Receive, messages: tuple[Message, ...] = ()) -> None:
        self._receive = receive
        self._ready = list(messages)
        self._messages: list[Message] = []
        self._bytes = 0
        self.gone = False

    async def receive(self) -> Message:
        if self._ready:
            return self._ready.pop(0)
        message = await self._receive()
        self.gone = self.gone or message["type"] == "http.disconnect"
        self._bytes += len(message.get("body", b""))
        if self._bytes <= _MOST_BYTES:
            self._messages.append(message)
        else:
            self._messages.clear()
        return message

    @property
    def whole(self) -> bool:
        """Whether all that came is here, and somebody still waits for the answer."""
        return not self.gone and self._bytes <= _MOST_BYTES

    def again(self) -> "_Kept":
        return _Kept(self._receive, tuple(self._messages))


class _Answering:
    """An answer on its way out; ``begun`` once a client may have seen some of it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def send(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


def middlewares() -> list[Middleware]:
    """What Serve asks for where RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names this function."""
    return [Middleware(Retry)]
