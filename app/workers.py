"""Several processes behind one port: started, started again when one dies, replaced one by one, stopped together.

Each has its own copy of the checkpoints and its share of the cores. They listen on one socket, so that a connection
goes to a process that is free to take it, from the moment when that has its checkpoints.
"""

import multiprocessing
import os
import secrets
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

import uvicorn
from pydantic import SecretStr

from app.address import reachable
from app.engine.bounds import DRAIN_SECONDS
from app.log import configure_logging, log, log_all
from app.settings import Settings

if TYPE_CHECKING:
    from app.engine.service import Service

_POLL = 0.5
_READY_SECONDS = 600.0
_AGAIN_SECONDS = 5.0
"""Between two starts of a process that dies before it is ready."""
_LESS_SECONDS = 60.0
"""Between two starts of one that serves less than the one that died: someone has to mend a checkpoint meanwhile."""
_spawn = multiprocessing.get_context("spawn")
Names: TypeAlias = tuple[str, ...]
"""Of the checkpoints that a process serves: there may be none."""


class Worker:
    """One process, and the end of a pipe on which it says that its checkpoints are loaded."""

    def __init__(self, settings: Settings, listening: socket.socket, owed: frozenset[str] = frozenset()) -> None:
        """``owed`` are the checkpoints that were served by the process in whose place it comes."""
        self.owed = owed
        self.ready, theirs = _spawn.Pipe(duplex=False)
        self.started = time.monotonic()
        self.process: SpawnProcess = _spawn.Process(target=_serve, args=(settings, listening, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.is_buried = self.is_told = False
        self._said: Names | None = None

    def said(self, patience: float = 0.0) -> Names | None:
        """What it serves or served, None if it is not ready within ``patience`` seconds, or died before it was."""
        if self._said is None and self.ready.poll(patience):
            with suppress(EOFError):
                self._said = tuple(self.ready.recv())
        return self._said

    def wait_until_ready(self, is_stopping: Callable[[], bool]) -> Names | None:
        """What it serves, or None if it died or took too long, or all is to stop."""
        while self.said(_POLL) is None and self.process.is_alive() and not is_stopping():
            if time.monotonic() > self.started + _READY_SECONDS:
                log.error("a process takes too long to start", pid=self.process.pid, seconds=_READY_SECONDS)
                break
        return self.said()

    @property
    def may_follow(self) -> bool:
        """Whether, now that it is dead, another one may be started: at once, or a while after it that served less."""
        patience = _AGAIN_SECONDS if self.said() is None else _LESS_SECONDS if self.missing else 0.0
        return time.monotonic() > self.started + patience

    @property
    def missing(self) -> list[str]:
        """What it owes and does not serve, once it is ready."""
        said = self.said()
        return [] if said is None else sorted(self.owed - {*said})

    def bury(self) -> None:
        """Note that it has died, once."""
        if not self.is_buried:
            self.is_buried, was_told = True, self.is_told
            self.stop(0)
            if not was_told:
                log.error("a process died", pid=self.process.pid, status=self.process.exitcode)

    def tell(self) -> None:
        """Ask it to end, once: asked again, it would not drain."""
        if not self.is_told and self.process.is_alive():
            self.process.terminate()
        self.is_told = True

    def withdraw(self) -> None:
        """Have it take no more connections from now on, without a grace period: what it has taken it still answers."""
        if not self.is_told and self.process.is_alive() and self.process.pid is not None:
            os.kill(self.process.pid, signal.SIGINT)
        self.is_told = True

    def stop(self, seconds: float) -> None:
        """Let it drain for so long, and end it."""
        self.tell()
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        _forget(self.process)


class Workers:
    """The process that starts the others. SIGTERM and SIGINT end them all; SIGHUP replaces them one by one."""

    def __init__(self, settings: Settings, announce: Callable[[str], None]) -> None:
        """Serve with ``settings.workers`` processes; ``announce`` is told once what all of them serve, and where."""
        configure_logging(settings)
        self._count = settings.workers
        self._settings = shared(settings)
        self._announce = announce
        self._workers: list[Worker] = []
        self._stops = self._replaces = False

    def run(self) -> bool:
        """Return when all is over: False if a process did not get ready at the start, and nobody asked it to stop."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._note)
        bound = uvicorn.Config("", self._settings.host, self._settings.port, log_config=None).bind_socket()
        with bound as listening, tempfile.TemporaryDirectory(dir=figures_folder()) as figures:
            # Where the processes share their figures for /metrics.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = figures
            try:
                self._workers = [Worker(self._settings, listening) for _ in range(self._count)]
                said = {worker.wait_until_ready(self._is_stopping) for worker in self._workers}
                if None in said:
                    # It did not get ready, and another one would not either.
                    return self._stops
                host, port = listening.getsockname()[:2]
                address = f"http://{reachable(host)}:{port}/docs"
                names = ", ".join(said.pop() or ()) or "no model"
                self._announce(f"Serving {names}. Try it at {address} ({self._count} processes)")
                self._watch(listening)
                return True
            finally:
                for worker in self._workers:
                    worker.tell()
                # Nobody is started any more. Were it open here while they finish, whoever connects would wait for
                # an answer from nobody.
                listening.close()
                for worker in self._workers:
                    worker.stop(self._patience)

    @property
    def _patience(self) -> float:
        return self._settings.drain_seconds + DRAIN_SECONDS + self._settings.shutdown_seconds + 1

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._replaces = True
        else:
            self._stops = True

    def _is_stopping(self) -> bool:
        return self._stops

    def _watch(self, listening: socket.socket) -> None:
        while True:
            living = [worker.process.sentinel for worker in self._workers if worker.process.is_alive()]
            # Without any to wait for, it would return at once.
            if living:
                wait(living, timeout=_POLL)
            else:
                time.sleep(_POLL)
            replaces, self._replaces = self._replaces, False
            for place, worker in enumerate(self._workers):
                if self._is_stopping():
                    return
                if replaces:
                    self._replace(place, listening)
                elif not worker.process.is_alive():
                    worker.bury()
                    if worker.may_follow or (worker.missing and not self._serves(worker.owed)):
                        self._workers[place] = Worker(self._settings, listening, worker.owed.union(worker.said() or ()))
                elif worker.missing and not worker.is_told and self._serves(worker.owed):
                    # What a client is answered must not depend on which process takes its connection.
                    worker.withdraw()
                    said = "a process in place of one that died serves less; the others go on"
                    log.error(said, missing=worker.missing, again_seconds=_LESS_SECONDS)

    def _serves(self, names: frozenset[str]) -> bool:
        """Whether a process serves all of them."""
        return any(worker.process.is_alive() and names <= {*(worker.said() or ())} for worker in self._workers)

    def _replace(self, place: int, listening: socket.socket) -> None:
        """Bring another process into service that serves no less, and only then let the one at ``place`` go."""
        new, old = Worker(self._settings, listening), self._workers[place]
        names = new.wait_until_ready(self._is_stopping)
        if names is None:
            new.stop(0)
            if not self._stops:
                log.error("a process did not start anew; the old one goes on")
            return
        # One that has died serves nothing: any other is better.
        had = (old.said() if old.process.is_alive() else None) or ()
        if missing := sorted(set(had) - set(names)):
            new.withdraw()
            log.error("a process that started anew serves less; the old one goes on", missing=missing)
            new.stop(self._patience)
            return
        old.stop(self._patience)
        self._workers[place] = new


def figures_folder() -> str | None:
    """Where processes share figures: in memory, where there is a folder of it, or else among other temporary files.

    The figures' files are mapped, with holes: on a disk that others have filled, writing into one ends the process.
    """
    memory = "/dev/shm"  # noqa: S108 (a folder of its own is made there, as in any other)
    return memory if os.access(memory, os.W_OK | os.X_OK) else None


def shared(settings: Settings) -> Settings:
    """The settings of each of ``settings.workers`` processes: what is not set by hand is its share of the cores,
    and a key that they have in common."""
    cores = max((os.cpu_count() or 1) // settings.workers, 1)
    own: dict[str, object] = {}
    if settings.stream_key is None:
        # A session that one of them exported goes on in any other.
        own["stream_key"] = SecretStr(secrets.token_urlsafe(32))
    if not settings.threads:
        own["threads"] = cores
    if "decode_workers" not in settings.model_fields_set:
        own["decode_workers"] = min(cores, settings.decode_workers)
    return settings.model_copy(update=own)


def _serve(settings: Settings, listening: socket.socket, ready: Connection) -> None:
    """A process' life."""
    from app.server import Server

    log_all()
    threading.Thread(target=_outlive_nobody, daemon=True).start()

    def announce(_: str, service: "Service") -> None:
        ready.send(tuple(service.registry.profiles))
        ready.close()

    # SIGINT is raised again at the end: it would leave a traceback in the log.
    try:
        with suppress(KeyboardInterrupt):
            Server(settings, announce).run([listening])
    except Exception as error:  # noqa: BLE001 - multiprocessing would write it to stderr as it is
        log.critical("uncaught error", exc_info=error)
        raise SystemExit(1) from None


def _outlive_nobody() -> None:
    """End in order when the parent is dead, which then cannot say so: its children would hold the port for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _forget(process: SpawnProcess) -> None:
    """Take what a process had now, such as requests that wait, out of the common figures."""
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
