"""Several processes behind one port."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
import structlog
from pydantic import SecretStr

from app.engine.bounds import DRAIN_SECONDS
from app.settings import Settings
from app.workers import Worker, Workers, _spawn, shared
from models.checkpoint import save_checkpoint
from tests.app.conftest import Open
from tests.app.process import started
from tests.support import tiny_config, tiny_network, tiny_tokenizer


def put(folder: Path, version: str) -> None:
    config = tiny_config().model_copy(update={"version": version})
    save_checkpoint(folder / "captioner", config, tiny_network(config), tiny_tokenizer())


@contextmanager
def serving(root: Path, errors: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """The processes' parent, where they serve, and how many serve there."""
    with started(errors, MODEL_DIR=str(root), WORKERS="2", ADMIN_KEY="secret") as (parent, said):
        assert "captioner" in said
        yield parent, said.split()[5].removesuffix("/docs"), int(said.split("(")[1].split()[0])


def children(parent: int) -> set[int]:
    """Processes that serve: those that hold many threads, which the resource tracker does not."""
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    found = {int(pid) for task in tasks for pid in task.read_text().split()}
    return {pid for pid in found if len(list(Path(f"/proc/{pid}/task").glob("*"))) > 2}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.timeout(300)
def test_processes_share_a_port_are_started_again_replaced_and_ended(tmp_path: Path, jpeg: bytes) -> None:
    put(tmp_path, "1.0.0")
    with serving(tmp_path, tmp_path / "errors") as (parent, address, count):
        assert count == 2
        url = f"{address}/v1/models/captioner/predict"

        def version() -> str:
            # Each on a new connection, which either may take.
            answer = httpx2.post(url, files={"image": jpeg}, timeout=60)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["version"])

        assert {version() for _ in range(8)} == {"1.0.0"}
        figures = httpx2.get(f"{address}/metrics").text
        assert 'fusionrnn_requests_total{model="captioner",status="200"} 8.0' in figures
        assert "fusionrnn_waiting_requests 0.0" in figures
        first = children(parent.pid)
        assert len(first) == 2
        if os.access("/dev/shm", os.W_OK):
            # Not on a disk, which may be full: a page of a mapped file that finds no room ends its process.
            own = Path(f"/proc/{min(first)}/environ").read_bytes().split(b"\0")
            assert [line for line in own if line.startswith(b"PROMETHEUS_MULTIPROC_DIR=/dev/shm/")]

        os.kill(min(first), signal.SIGKILL)
        assert version() == "1.0.0"
        _until(lambda: len(children(parent.pid)) == 2 and children(parent.pid) != first)

        before = children(parent.pid)
        put(tmp_path, "2.0.0")
        parent.send_signal(signal.SIGHUP)
        _until(lambda: {version() for _ in range(10)} == {"2.0.0"})

        # It replaces nobody by a process that has nothing to serve.
        _until(lambda: len(children(parent.pid)) == 2 and not children(parent.pid) & before)
        last = children(parent.pid)
        weights = max((tmp_path / "captioner").iterdir(), key=lambda path: path.stat().st_size)
        os.truncate(weights, weights.stat().st_size // 2)
        parent.send_signal(signal.SIGHUP)
        _until(lambda: (tmp_path / "errors").read_text().count("serves less") == 2)
        _until(lambda: children(parent.pid) == last)
        assert {version() for _ in range(10)} == {"2.0.0"}
    said = (tmp_path / "errors").read_text()
    assert '"missing": ["captioner"]' in said
    assert "Traceback" not in said
    assert parent.returncode == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in last)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes in /proc")
@pytest.mark.timeout(300)
def test_processes_end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    put(tmp_path, "1.0.0")
    with serving(tmp_path, tmp_path / "errors") as (parent, _, _):
        orphans = children(parent.pid)
        parent.kill()
        _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    assert len(orphans) == 2


class Mortal:
    """Stands for a process that is ready or not, and lives or not."""

    alive: bool

    def __init__(self, *names: str, ready: bool = True, alive: bool = True) -> None:
        self.process = SimpleNamespace(
            is_alive=lambda: self.alive, sentinel=os.pipe()[0], terminate=lambda: None, pid=1, exitcode=-9
        )
        self.ready, self.alive, self.buried = ready, alive, 0
        self.may_follow = ready
        self.names, self.is_withdrawn, self.is_told = names, False, False
        self.owed: frozenset[str] = frozenset()
        self.missing: list[str] = []

    def said(self) -> tuple[str, ...] | None:
        return self.names if self.ready else None

    def wait_until_ready(self, is_stopping: Callable[[], bool]) -> tuple[str, ...] | None:
        return self.said()

    def withdraw(self) -> None:
        self.is_withdrawn = self.is_told = True

    def bury(self) -> None:
        self.buried += 1

    def tell(self) -> None:
        """It does not listen."""

    def stop(self, seconds: float) -> None:
        self.alive = False


class Process:
    """Notes how often it is asked to end, and does so when it is waited for."""

    pid, exitcode = 1, 0

    def __init__(self, **_: object) -> None:
        self.asked, self.alive = 0, True

    def start(self) -> None:
        """It is alive at once."""

    def is_alive(self) -> bool:
        return self.alive

    def terminate(self) -> None:
        self.asked += 1

    def join(self, seconds: float = 0) -> None:
        self.alive = False


def test_one_that_drains_is_not_asked_a_second_time_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a process a second signal says to close at once."""
    monkeypatch.setattr("app.workers._spawn.Process", Process)
    monkeypatch.setattr("app.workers._forget", lambda _: None)
    with socket.socket() as listening:
        worker = Worker(Settings(workers=2), listening)
    worker.tell()
    worker.stop(1)
    assert cast("Process", worker.process).asked == 1


def test_one_that_is_withdrawn_has_no_grace_period_and_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("app.workers._spawn.Process", Process)
    monkeypatch.setattr("app.workers._forget", lambda _: None)
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    with socket.socket() as listening:
        worker = Worker(Settings(workers=2), listening)
    worker.withdraw()
    worker.stop(1)
    assert sent == [(1, signal.SIGINT)]
    assert cast("Process", worker.process).asked == 0


def test_one_that_hangs_while_it_starts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.workers._spawn.Process", Process)
    monkeypatch.setattr("app.workers._forget", lambda _: None)
    monkeypatch.setattr("app.workers._POLL", 0.01)
    monkeypatch.setattr("app.workers._READY_SECONDS", 0.05)
    pipe = _spawn.Pipe
    kept = []

    def open_pipe(**given: Any) -> Any:
        # Its end stays open, as that of a process does which hangs.
        ours, theirs = pipe(**given)
        kept.append(theirs)
        return ours, SimpleNamespace(close=lambda: None)

    monkeypatch.setattr("app.workers._spawn.Pipe", open_pipe)
    with socket.socket() as listening, structlog.testing.capture_logs() as logged:
        worker = Worker(Settings(workers=2), listening)
        assert worker.wait_until_ready(lambda: False) is None
    worker.stop(0)
    kept[0].close()
    (said,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert (said["pid"], said["seconds"]) == (1, 0.05)


def test_one_that_does_not_start_again_ends_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.workers._POLL", 0.01)
    workers = Workers(Settings(workers=2), lambda _: None)
    good, dead = Mortal(), Mortal(alive=False)
    made: list[Mortal] = []

    def start(*_: object) -> Mortal:
        # The first one that follows dies while it loads, and the next does not.
        made.append(Mortal(ready=bool(made), alive=bool(made)))
        return made[-1]

    def count(number: float) -> None:
        made[0].may_follow = made[0].buried > 3
        if len(made) == 2:
            workers._note(signal.SIGTERM, None)

    monkeypatch.setattr("app.workers.Worker", start)
    monkeypatch.setattr("app.workers.wait", lambda _, timeout: count(timeout) if made else None)
    workers._workers = [cast("Worker", good), cast("Worker", dead)]
    with socket.socket() as listening:
        workers._watch(listening)
    assert [cast("object", worker) for worker in workers._workers] == [good, made[1]]
    assert good.alive


def test_one_that_cannot_start_at_all_is_said_by_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.workers.Worker", lambda *_: Mortal(ready=False, alive=False))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    # Set for the children, and to be forgotten with this test.
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    announced: list[str] = []
    assert not Workers(Settings(workers=2, port=0, log_format="json"), announced.append).run()
    assert not announced
    # Whatever says something on the way, says it as the settings have it.
    said = capfd.readouterr().err.splitlines()
    assert any("Uvicorn running" in line for line in said)
    assert all(json.loads(line)["level"] for line in said)


def test_a_signal_to_stop_is_heeded_while_processes_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(Settings(workers=4), lambda _: None)
    made = []

    class Slow:
        def __init__(self, *_: object) -> None:
            made.append(self)
            self.process = SimpleNamespace(is_alive=lambda: True, sentinel=os.pipe()[0], terminate=lambda: None)
            self.is_stopped = False
            self.missing: list[str] = []

        def said(self) -> tuple[str, ...] | None:
            return ("captioner",)

        def wait_until_ready(self, is_stopping: Callable[[], bool]) -> tuple[str, ...] | None:
            if len(made) == 6:
                workers._note(signal.SIGTERM, None)
            return None if is_stopping() else ("captioner",)

        def stop(self, seconds: float) -> None:
            self.is_stopped = True

    monkeypatch.setattr("app.workers.Worker", Slow)
    workers._workers = [cast("Worker", Slow()) for _ in range(4)]
    workers._note(signal.SIGHUP, None)
    with socket.socket() as listening:
        workers._watch(listening)
    assert len(made) == 6
    # The first was replaced; the second's successor did not get ready, and is gone.
    assert [worker.is_stopped for worker in made] == [True, False, False, False, False, True]


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        (Mortal("captioner", "words"), Mortal("words", "sounds"), ["captioner"]),
        (Mortal("captioner", "words"), Mortal(), ["captioner", "words"]),
        (Mortal("captioner"), Mortal("captioner", "words"), None),
        (Mortal("captioner", alive=False), Mortal(), None),
        (Mortal("captioner", ready=False), Mortal(), None),
    ],
    ids=["one fewer", "none", "one more", "the old one is dead", "the old one is not ready"],
)
def test_a_process_is_replaced_by_one_that_serves_no_less(
    old: Mortal, new: Mortal, missing: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = Workers(Settings(workers=2), lambda _: None)
    monkeypatch.setattr("app.workers.Worker", lambda *_: new)
    workers._workers = [cast("Worker", old)]
    with socket.socket() as listening, structlog.testing.capture_logs() as logged:
        workers._replace(0, listening)
    said = [entry["missing"] for entry in logged if entry["log_level"] == "error"]
    assert said == ([] if missing is None else [missing])
    assert cast("object", workers._workers[0]) is (new if missing is None else old)
    assert (old.alive, new.alive) == ((False, True) if missing is None else (True, False))
    assert new.is_withdrawn is (missing is not None)


@pytest.mark.parametrize("others", [["captioner", "words"], ["words"], []], ids=["serve all", "serve as few", "died"])
def test_one_that_comes_in_place_of_a_dead_one_serves_no_less_than_it_or_than_the_others(
    others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.workers._POLL", 0.01)
    workers = Workers(Settings(workers=2), lambda _: None)
    made: list[Mortal] = []

    def start(_: Settings, __: socket.socket, owed: frozenset[str]) -> Mortal:
        assert owed == {"captioner", "words"}
        new = Mortal("words")
        new.owed, new.missing = owed, ["captioner"]
        made.append(new)
        return new

    left = [3]

    def count(*_: object, **__: object) -> None:
        left[0] -= 1
        if not left[0]:
            workers._note(signal.SIGTERM, None)

    other, dead = Mortal(*others, alive=bool(others)), Mortal("captioner", "words", alive=False)
    other.may_follow = False
    monkeypatch.setattr("app.workers.Worker", start)
    monkeypatch.setattr("app.workers.wait", count)
    monkeypatch.setattr("app.workers.time.sleep", count)
    workers._workers = [cast("Worker", other), cast("Worker", dead)]
    with socket.socket() as listening, structlog.testing.capture_logs() as logged:
        workers._watch(listening)
    (new,) = made
    assert new.is_withdrawn is (len(others) == 2)
    assert [line["missing"] for line in logged] == ([["captioner"]] if len(others) == 2 else [])


def test_one_that_served_less_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.workers._spawn.Process", Process)
    with socket.socket() as listening:
        worker = Worker(Settings(workers=2), listening, frozenset({"captioner", "words"}))
    worker._said = ("words",)
    assert worker.missing == ["captioner"]
    may_follow = []
    for seconds in (60.0, 0.0):
        monkeypatch.setattr("app.workers._LESS_SECONDS", seconds)
        may_follow.append(worker.may_follow)
    assert may_follow == [False, True]
    worker._said = ("captioner", "words")
    assert not worker.missing


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", ["1", "2"])
def test_every_line_of_the_log_is_json(count: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of what Python writes by itself: warnings, and errors in threads or where nobody can catch them."""
    put(tmp_path / "models", "1.0.0")
    (tmp_path / "fusionrnn_loud_plugin.py").write_text(
        "import threading, warnings\n"
        "class Loud:\n"
        "    def __del__(self):\n"
        "        raise OSError('in del')\n"
        "def run():\n"
        "    raise OSError('in a thread')\n"
        "warnings.warn('beware')\n"
        "Loud()\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    given = {"MODEL_DIR": str(tmp_path / "models"), "WORKERS": count, "PLUGINS": "fusionrnn_loud_plugin"}
    with started(tmp_path / "errors", **given):
        pass
    said = (tmp_path / "errors").read_text()
    lines = [json.loads(line) for line in said.splitlines()]
    for loud in ("beware", "in del", "in a thread"):
        assert loud in said
    assert all(line["event"] and line["level"] for line in lines)


def test_whoever_connects_while_processes_drain_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[bool] = []
    told: list[int] = []

    class Draining(Mortal):
        def __init__(self, _: Settings, listening: socket.socket) -> None:
            super().__init__("captioner")
            self.listening = listening
            listening.listen()
            self.address = listening.getsockname()

        def tell(self) -> None:
            # Until it knows, whoever connects is to be served.
            told.append(self.listening.fileno())

        def stop(self, seconds: float) -> None:
            with socket.socket() as client:
                refused.append(client.connect_ex(self.address) != 0)

    monkeypatch.setattr("app.workers.Worker", Draining)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    said: list[str] = []

    def announce(line: str) -> None:
        said.append(line)
        workers._note(signal.SIGTERM, None)

    workers = Workers(Settings(workers=2, port=0), announce)
    assert workers.run()
    assert said[0].startswith("Serving captioner. Try it at http://")
    assert len(told) == 2
    assert min(told) >= 0
    assert refused == [True, True]


def test_processes_have_time_for_their_sessions_and_then_for_their_requests() -> None:
    settings = Settings(workers=2, drain_seconds=3, shutdown_seconds=7)
    assert Workers(settings, lambda _: None)._patience > 3 + DRAIN_SECONDS + 7


def test_each_process_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert (shared(Settings(workers=2)).threads, shared(Settings(workers=2)).decode_workers) == (4, 4)
    assert (shared(Settings(workers=16)).threads, shared(Settings(workers=16)).decode_workers) == (1, 1)
    set_by_hand = shared(Settings(workers=2, threads=3, decode_workers=7))
    assert (set_by_hand.threads, set_by_hand.decode_workers) == (3, 7)


def test_processes_have_a_key_in_common_that_nobody_else_has() -> None:
    first, second = shared(Settings(workers=2)).stream_key, shared(Settings(workers=2)).stream_key
    assert first is not None
    assert first != second
    assert shared(Settings(workers=2, stream_key=SecretStr("mine"))).stream_key == SecretStr("mine")


def test_the_embedded_store_of_collections_is_for_one_process(open_client: Open) -> None:
    answer = open_client(workers=2).get("/v1/collections")
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert "COLLECTIONS_URL" in answer.json()["remedy"]


def _until(holds: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)
