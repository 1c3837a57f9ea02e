"""uvicorn with more manners: bounded heads, a word once the models are ready, and draining before it stops."""

import asyncio
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn

from app.address import reachable
from app.engine.garbage import settle
from app.engine.service import Service
from app.engine.sessions import Sessions
from app.log import configure_logging, log
from app.main import create_app
from app.protocol import BoundedProtocol, WebSocketProtocol
from app.settings import Settings


class Server(uvicorn.Server):
    """Serves one application; ``announce`` is called with its address when every checkpoint is loaded."""

    def __init__(self, settings: Settings, announce: Callable[[str, Service], None]) -> None:
        configure_logging(settings)
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            settings.host,
            settings.port,
            http=type("Protocol", (BoundedProtocol,), {"head_seconds": settings.upload_pause_seconds}),
            ws=WebSocketProtocol,
            root_path=settings.root_path,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_seconds,
            # Coded sound does not get smaller, and a pair of compressors is larger than a session.
            ws_per_message_deflate=False,
            # More than a chunk, so that the application can say what is wrong with one that is too large.
            ws_max_size=2 * settings.stream_chunk_bytes + 2**16,
            # Whoever sends faster than it is read is also answered late: its session's own limit ends it, not this.
            ws_ping_timeout=max(20.0, settings.stream_idle_seconds),
        )
        super().__init__(config)
        self.service: Service = app.state.service
        self._sessions: Sessions = app.state.sessions
        self._announce = announce
        self._announcing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the socket; the announcement follows when the models are there."""
        if threading.current_thread() is threading.main_thread():
            # By the loop: a handler of Python's own might write to the log while that is being written to.
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._stay)
        await super().startup(sockets)
        if self.started:
            self._announcing = asyncio.create_task(self._announce_when_loaded())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streaming sessions get their state before their sockets close; whoever is given up gets a last word."""
        await self._sessions.drain()
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves these to the end of the loop, which cancels everything at once, the lifespan too.
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Say on /readyz that this is the end, and close after the grace period; a second signal closes at once."""
        grace = 0.0 if self.service.draining or sig == signal.SIGINT else self.service.settings.drain_seconds
        self.service.draining = True
        if grace == 0:
            super().handle_exit(sig, frame)
            return
        timer = threading.Timer(grace, super().handle_exit, (sig, frame))
        timer.daemon = True
        timer.start()

    def _stay(self) -> None:
        """SIGHUP would end the process at once, with whatever it is answering."""
        if self.service.settings.workers > 1:
            remedy = "Send it to the process that started this one."
        else:
            remedy = "POST /v1/models/NAME/load, with the admin key, loads a checkpoint anew."
        log.warning("SIGHUP reloads nothing in this process", remedy=remedy)

    async def _announce_when_loaded(self) -> None:
        assert self.service.loading is not None
        await asyncio.shield(self.service.loading)
        settle()
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        self._announce(f"http://{reachable(host)}:{port}", self.service)
