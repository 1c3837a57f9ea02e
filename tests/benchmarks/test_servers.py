"""Every peer is pinned, and a server is started, asked, watched and stopped."""

import os
import re
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from benchmarks.serving import servers
from benchmarks.serving.bench import Bench
from benchmarks.serving.client import Load, in_turn
from benchmarks.serving.goodput import Effort
from benchmarks.serving.servers import SERVERS, Server, ServerFault, running
from benchmarks.serving.workloads import WORKLOADS
from tests.repository.project import ROOT
from tests.repository.test_dependencies import third_party

(TEXT,) = (workload for workload in WORKLOADS if workload.name == "w3")
PEERS = ROOT / "benchmarks" / "serving" / "peers"


@pytest.mark.parametrize("server", [server for server in SERVERS if server.pins], ids=lambda server: server.name)
def test_a_peer_has_exact_pins_of_all_that_it_brings(server: Server) -> None:
    lines = (PEERS / f"{server.pins}.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+]+", line)] == []
    pins = dict(line.split("==") for line in lines)
    assert server.name in pins
    assert pins["torch"] == "2.13.0"
    needed = {name for name, users in third_party("models").items() if any("/training/" not in user for user in users)}
    assert needed <= {canonicalize_name(name) for name in pins}, "it computes with the package models"


def test_every_file_of_pins_belongs_to_a_peer() -> None:
    assert {path.stem for path in PEERS.glob("*.txt")} == {server.pins for server in SERVERS if server.pins}


@pytest.mark.timeout(180)
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are pinned by Linux' call")
def test_plain_fastapi_answers_is_measured_and_ends() -> None:
    (plain,) = (server for server in SERVERS if server.name == "fastapi")
    cores = sorted(os.sched_getaffinity(0))[-1:]
    with running(plain, TEXT, [b"a fine film", b"a dull one"], runtime="torch", batch=1, cores=cores) as started:
        before = started.usage()
        outcomes = in_turn(started.url, list(started.posts) * 4, clients=2, patience=30)
        assert Load(1, 1, tuple(outcomes)).answered == 8
        after = started.usage()
        assert after.since(before) > 0
        assert after.memory > 50e6
        assert started.process.cpu_affinity() == cores
        process = started.process
    assert not process.is_running()


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Server(
        "broken", "Broken", "", lambda programs, _: [str(programs / "python"), "-c", "1 / 0"], SERVERS[0].route
    )
    with (
        pytest.raises(ServerFault, match="ZeroDivisionError"),
        running(broken, TEXT, [b"a"], runtime="torch", batch=1, cores=sorted(os.sched_getaffinity(0))),
    ):
        pass


def test_a_server_that_cannot_be_installed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "VENVS", tmp_path)
    monkeypatch.setattr(servers, "_PINS", tmp_path)
    (tmp_path / "broken.txt").write_text("./no/such/folder\n")
    broken = Server("broken", "Broken", "", lambda *_: [], SERVERS[0].route, pins="broken")
    with pytest.raises(ServerFault, match="not installed"):
        broken.install()
    assert not broken.installed


def test_a_faulty_server_is_left_out_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, Effort(), cores=[0])
    monkeypatch.setattr(bench, "limit", lambda *_: 100.0)

    def fault(*_: object, **__: object) -> None:
        raise ServerFault("did not start: it is broken")

    monkeypatch.setattr("benchmarks.serving.bench.running", fault)
    monkeypatch.setattr(type(TEXT), "pool", lambda *_: [b"a"])
    (plain,) = (server for server in SERVERS if server.name == "fastapi")
    bench.goodput(plain, TEXT, "torch", 0)
    assert bench.absent == {"fastapi": "did not start: it is broken"}
