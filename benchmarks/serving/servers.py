"""The servers that are compared: how each is installed, started, asked, watched and stopped."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import psutil

from benchmarks.serving.client import OK, Post, form, one_by_one
from benchmarks.serving.peers.work import BATCH, FIELD, MODEL, PART, PORT, RUNTIME
from benchmarks.serving.workloads import ZOO, Workload

ROOT = Path(__file__).parents[2]
VENVS = ROOT / "build" / "peers"
_PINS = Path(__file__).parent / "peers"
_MODULES = "benchmarks.serving.peers"
_START_SECONDS = 180.0
_STOP_SECONDS = 30.0
_UNAVAILABLE = 503
_IDLE_SHARE, _IDLE_SECONDS, _SETTLE_SECONDS = 0.15, 0.5, 60.0


class ServerFault(Exception):
    """A server that could not be installed or started; the message says why."""


Command = Callable[[Path, int], Sequence[str]]
"""Given the folder of a venv's programs and a port."""


@dataclass(frozen=True, slots=True)
class Server:
    """``told`` describes its settings for the page; ``batches``: it takes a batch size, which is tuned.

    ``ready`` is a path that it answers, with anything but 503, when it has loaded.
    """

    name: str
    title: str
    told: str
    command: Command
    route: Callable[[Workload, bytes], Post]
    pins: str | None = None
    batches: bool = False
    ready: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def programs(self) -> Path:
        """Folder of the venv's programs: the project's own where the server needs no other packages."""
        return Path(sys.executable).parent if self.pins is None else VENVS / self.pins / "bin"

    @property
    def installed(self) -> bool:
        """Whether its venv is there, with these pins."""
        return self.pins is None or (
            self._stamp.is_file() and self._stamp.read_text(encoding="utf-8") == _digest(self._file)
        )

    def install(self) -> None:
        """Make its venv.

        Raises:
            ServerFault: pip failed.
        """
        if self.installed:
            return
        venv = self.programs.parent
        pip = [str(self.programs / "python"), "-m", "pip", "install", "--quiet", "--requirement", str(self._file)]
        for command in ([sys.executable, "-m", "venv", "--clear", str(venv)], pip):
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own command
            if done.returncode:
                raise ServerFault(f"not installed: {_last_line(done.stderr)}")
        self._stamp.write_text(_digest(self._file), encoding="utf-8")

    @property
    def _file(self) -> Path:
        return _PINS / f"{self.pins}.txt"

    @property
    def _stamp(self) -> Path:
        return VENVS / str(self.pins) / "pins"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _module(name: str) -> Command:
    return lambda programs, _: [str(programs / "python"), "-m", f"{_MODULES}.{name}"]


def _file_form(_: Workload, data: bytes) -> Post:
    return form("/predict", FIELD, data)


SERVERS = (
    Server(
        "fusionrnn",
        "fusionrnn",
        "as installed, with the one checkpoint",
        lambda programs, port: [str(programs / "fusionrnn"), "serve", "--port", str(port)],
        lambda workload, data: form(
            f"/v1/models/{workload.model}/predict", workload.part, data, file=workload.part != "text"
        ),
        ready="/readyz",
        environment={"FUSIONRNN_LOG_LEVEL": "warning"},
    ),
    Server(
        "fastapi",
        "FastAPI, plain",
        "`def` endpoint in its pool of 40 threads, a lock around the network, uvicorn with uvloop and httptools",
        _module("fastapi"),
        _file_form,
    ),
    Server(
        "litserve",
        "LitServe",
        "one worker and one API server, `batch_timeout` 5 ms, `max_batch_size`",
        _module("litserve"),
        _file_form,
        pins="litserve",
        batches=True,
    ),
    Server(
        "bentoml",
        "BentoML",
        "one worker, `batchable`, adaptive; `max_batch_size`",
        lambda programs, port: [
            str(programs / "bentoml"), "serve", f"{_MODULES}.bentoml:Predictor", "--port", str(port),
        ],
        _file_form,
        pins="bentoml",
        batches=True,
        environment={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    Server(
        "ray",
        "Ray Serve",
        "one replica, decoding in threads, `serve.batch` with a wait of 5 ms, `RAY_SERVE_THROUGHPUT_OPTIMIZED`; "
        "`max_batch_size`",
        _module("ray"),
        _file_form,
        pins="ray",
        batches=True,
        environment={
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            # It would need HAProxy beside it.
            "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        },
    ),
    Server(
        "mosec",
        "Mosec",
        "a process that decodes and one that computes, `max_wait_time` 5 ms, bodies without a form; `max_batch_size`",
        lambda programs, port: [
            *_module("mosec")(programs, port), "--port", str(port), "--address", "127.0.0.1", "--timeout", "120000",
            "--log-level", "error",
        ],
        lambda _, data: Post("/inference", data, {"Content-Type": "application/octet-stream"}),
        pins="mosec",
        batches=True,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usage:
    """What a server's processes have used: CPU seconds by process, and their memory without double counting."""

    cpu: Mapping[int, float]
    memory: int

    def since(self, before: "Usage") -> float:
        """CPU seconds since an earlier moment, those of new processes included."""
        return sum(seconds - before.cpu.get(process, 0.0) for process, seconds in self.cpu.items())


@dataclass(frozen=True, slots=True)
class Running:
    """A started server."""

    url: str
    posts: Sequence[Post]
    process: psutil.Process
    idle: float = 0.0
    """What ``busy`` was after the start: some servers are never still."""

    def usage(self) -> Usage:
        """What its whole tree of processes has used so far; memory in bytes (PSS)."""
        cpu, memory = {}, 0
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                times = process.cpu_times()
                memory += process.memory_full_info().pss
            except psutil.Error:
                continue
            cpu[process.pid] = times.user + times.system
        return Usage(cpu, memory)

    def settle(self) -> None:
        """Wait until it has done what earlier runs left in its queues: until it is about as idle as after its start."""
        until = time.monotonic() + _SETTLE_SECONDS
        while self.busy() > self.idle + _IDLE_SHARE and time.monotonic() < until:
            pass

    def busy(self) -> float:
        """CPU seconds that it uses in a second, now."""
        before = self.usage()
        time.sleep(_IDLE_SECONDS)
        return self.usage().since(before) / _IDLE_SECONDS


@contextmanager
def running(
    server: Server, workload: Workload, pool: Sequence[bytes], *, runtime: str, batch: int, cores: Sequence[int]
) -> Iterator[Running]:
    """Start a server on these cores; it has answered when the block is entered.

    Raises:
        ServerFault: it did not start.
    """
    port = _free_port()
    threads = str(len(cores))
    environment = os.environ | {"FUSIONRNN_MODEL_DIR": str(ZOO / workload.model)} | dict(server.environment)
    environment |= {MODEL: workload.model, PART: workload.part, RUNTIME: runtime, BATCH: str(batch), PORT: str(port)}
    environment |= {"FUSIONRNN_RUNTIME": runtime, "OMP_NUM_THREADS": threads, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(  # noqa: S603  our own command
            server.command(server.programs, port),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
        # Before it has imported anything: whatever it starts inherits the cores.
        os.sched_setaffinity(process.pid, cores)
        posts = [server.route(workload, data) for data in pool]
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(process, url, server.ready, posts[0], log)
            started = Running(url, posts, psutil.Process(process.pid))
            # The lower of two: some go on measuring or loading for a moment after their first answer.
            yield replace(started, idle=min(started.busy(), started.busy()))
        finally:
            _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, ready: str, post: Post, log: IO[str]) -> None:
    until, status = time.monotonic() + _START_SECONDS, 0
    while time.monotonic() < until and process.poll() is None:
        if _listens(url + ready) and (status := one_by_one(url, [post], _START_SECONDS)[0].status) == OK:
            return
        time.sleep(0.2)
    log.seek(0)
    raise ServerFault(f"did not start (HTTP status {status}): {_last_line(log.read())}")


def _listens(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own address
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code != _UNAVAILABLE
    except OSError:
        return False


def _stop(process: "subprocess.Popen[bytes]") -> None:
    tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, left = psutil.wait_procs(tree, timeout=5)
    for child in left:
        child.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"
