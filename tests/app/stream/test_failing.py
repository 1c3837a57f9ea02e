"""What nobody expected ends the session that it happens to, is logged, and costs no other session."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import structlog
from fastapi.testclient import TestClient
from websockets.sync.client import connect

from app.engine.live import Live
from app.settings import ZOO
from tests.app.conftest import running_server
from tests.app.stream.conftest import PATH, S16, FarEnd, serving, sessions_of
from tests.app.stream.test_bad_input import neighbour

Break = Callable[[Live, pytest.MonkeyPatch], None]


class Unforeseen(Exception):
    """What a network part of somebody's own may raise."""


def fail(*_: Any, **__: Any) -> Any:
    raise Unforeseen


def cannot_say(kind: str) -> Break:
    """Nothing of a kind can be said to the session's client."""

    def broken(live: Live, patched: pytest.MonkeyPatch) -> None:
        say = live.say
        patched.setattr(live, "say", lambda event: fail() if event["type"] == kind else say(event))

    return broken


@pytest.mark.parametrize(
    ("broken", "asked"),
    [
        (lambda live, patched: patched.setattr(live.session, "next", fail), "session.flush"),
        (lambda live, patched: patched.setattr(live, "answered", fail), "session.flush"),
        (cannot_say("final"), "session.flush"),
        (cannot_say("session.exported"), "session.export"),
        (lambda live, patched: patched.setattr(live.session, "snapshot", fail), "session.export"),
        (lambda live, patched: patched.setattr("models.streaming.sealing.Sealer.seal", fail), "session.export"),
        (lambda live, patched: patched.setattr(live, "overdue", fail), None),
    ],
    ids=["next", "answered", "say", "note", "snapshot", "seal", "sweep"],
)
def test_one_session_ends_with_an_error_and_the_others_go_on(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch, broken: Break, asked: str | None
) -> None:
    with neighbour(commands), commands.websocket_connect(PATH) as socket, structlog.testing.capture_logs() as logged:
        far = FarEnd(socket)
        live = sessions_of(commands).lives[far.start()["session"]]
        broken(live, monkeypatch)
        far.send_sound(np.zeros(16_000, np.float32))
        if asked is not None:
            far.say(asked)
        events, code = far.rest()
    assert (events[-1]["type"], events[-1]["detail"]) == ("error", "The server failed on this session.")
    assert code == 1008
    (failure,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert isinstance(failure["exc_info"], Unforeseen)


def test_a_session_that_cannot_begin_says_so(commands: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with neighbour(commands), commands.websocket_connect(PATH) as socket, structlog.testing.capture_logs() as logged:
        monkeypatch.setattr("models.streaming.recurrent.RecurrentStreams.session", fail)
        far = FarEnd(socket)
        far.say("session.start", modalities=S16)
        (event,), code = far.rest()
    assert (event["type"], event["status"], event["detail"]) == ("error", 500, "The server failed on this session.")
    assert code == 1008
    (failure,) = [entry for entry in logged if entry["log_level"] == "error"]
    assert isinstance(failure["exc_info"], Unforeseen)


def test_a_session_that_nobody_was_told_of_is_over_at_once(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, structlog.testing.capture_logs():
        patched.setattr("app.api.stream._greeting", fail)
        with commands.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.say("session.start", modalities=S16)
            assert far.rest()[1] == 1008
        assert not sessions_of(commands).lives


def test_a_session_whose_client_left_before_it_was_told_of_it_is_over_at_once() -> None:
    """On a real server: what is said to a client that has left fails."""
    gate = threading.Event()
    with running_server(ZOO / "voice-commands") as (address, serving), structlog.testing.capture_logs() as logged:
        (pipeline,) = serving.registry.pipelines.values()
        device = serving.runner.device(pipeline.device)
        device.submit(lambda: gate.wait(30))
        with connect(f"ws://{address}{PATH}") as socket:
            socket.send(json.dumps({"type": "session.start", "modalities": S16}))
            until(lambda: bool(serving.runner._chunks._threads))
        gate.set()
        until(lambda: [line["event"] for line in logged if "stream" in line["event"]][:1] == ["a stream began"])
        until(lambda: [line["reason"] for line in logged if line["event"] == "a stream ended"] == ["detached"])
        (ended,) = [line for line in logged if line["event"] == "a stream ended"]
    assert ended["seconds"] < 10


def test_of_two_states_that_are_asked_for_at_once_one_may_fail(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions, gate = sessions_of(commands), threading.Event()
    with commands.websocket_connect(PATH) as socket, commands.websocket_connect(PATH) as another:
        one, other = FarEnd(socket), FarEnd(another)
        bad, good = (sessions.lives[far.start()["session"]] for far in (one, other))
        (stepper,) = sessions._steppers.values()
        stepper.device.submit(lambda: gate.wait(30))
        monkeypatch.setattr(bad.session, "snapshot", fail)
        one.send_sound(np.zeros(1280, np.float32))
        until(lambda: bad.session.acknowledged == 0)
        # While the chunk is stepped, both gather for the next step.
        for far in (one, other):
            far.say("session.export")
        until(lambda: bool(bad.session._inbox and good.session._inbox))
        gate.set()
        assert one.rest()[1] == 1008
        assert other.until("session.exported")[-1]["state"]
        other.say("session.end")
        assert other.rest()[1] == 1000


def until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_session_whose_reader_does_not_close_is_forgotten_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as client:
        sessions = sessions_of(client)
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            live = sessions.lives[far.start()["session"]]
            monkeypatch.setattr(live.session.readers["audio"], "close", fail)
            far.say("session.end")
            assert far.rest()[1] == 1000
        assert not sessions.lives
        assert not sessions._steppers
