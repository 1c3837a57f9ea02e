"""An exported state takes along what its client could not hear, and one that does not fit is refused."""

import base64
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from models.streaming.sealing import Sealer
from tests.app.stream.conftest import PATH, S16, FarEnd, finals, serving, sessions_of
from tests.models.streaming.sounds import babble

SURE = {"threshold": 0.2}


@pytest.fixture(scope="module")
def held(commands: TestClient) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """An export that overtook finals, for want of credit, and those finals."""
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options=SURE, credit=1)
        far.send_sound(babble(5, 2))
        far.say("session.export")
        events = far.until("session.exported")
        far.say("credit", events=100)
        far.say("session.end")
        said = finals(events + far.rest()[0])
    exported = events[-1]
    assert exported["event"] > 2
    return exported, said


@pytest.mark.parametrize("received", [None, 1, 2])
def test_finals_that_a_state_overtook_are_said_where_it_goes_on(
    commands: TestClient, held: tuple[dict[str, Any], list[tuple[Any, ...]]], received: int | None
) -> None:
    exported, said = held
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        asked = {} if received is None else {"received": received}
        assert far.start(state=exported["state"], **asked)["event"] == exported["event"]
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert finals(events)[:-1] == said[received or 1 : exported["event"]]


def test_finals_that_are_not_in_a_state_are_not_left_out_without_a_word(
    commands: TestClient, held: tuple[dict[str, Any], list[tuple[Any, ...]]]
) -> None:
    before = set(sessions_of(commands).lives)
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        event = far.start(state=held[0]["state"], received=0)
        assert event["field"] == "received"
        assert "goes on after event 1" in event["detail"]
        assert far.rest() == ([], 1008)
    assert sessions_of(commands).lives.keys() <= before


def test_who_has_heard_more_than_a_state_may_drop_again(
    commands: TestClient, held: tuple[dict[str, Any], list[tuple[Any, ...]]]
) -> None:
    received = held[0]["event"] + 1
    with commands.websocket_connect(PATH) as socket:
        name = FarEnd(socket).start(state=held[0]["state"], received=received)["session"]
    with commands.websocket_connect(PATH) as socket:
        assert FarEnd(socket).start(session=name, received=received)["type"] == "session.started"


GOOD = {
    "numbers": [0.0] * 8,
    "next_sequence": 0,
    "said": 0,
    "overtaken": [],
    "start": {"modalities": S16, "options": {}},
}


@pytest.mark.parametrize(
    ("tensors", "facts"),
    [
        ({}, GOOD),
        ({"other": torch.zeros(1)}, GOOD),
        ({}, {}),
        ({}, GOOD | {"numbers": None}),
        ({}, {name: value for name, value in GOOD.items() if name != "overtaken"}),
    ],
)
def test_a_state_of_another_version_is_refused_with_the_reason(
    tensors: dict[str, torch.Tensor], facts: dict[str, Any]
) -> None:
    with serving(stream_key="k") as client:
        digest = client.get("/v1/models/voice-commands").json()["digest"]
        state = Sealer(b"k", digest, 60).seal(tensors or {"row.h": torch.zeros(1, 3)}, facts)
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            event = far.start(state=base64.b64encode(state).decode())
            assert event["field"] == "state"
            assert "another version" in event["detail"]
            assert far.rest() == ([], 1008)
        assert not sessions_of(client)._steppers


def test_a_first_message_that_is_no_text_is_told_so(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        socket.send_bytes(bytes(16))
        far = FarEnd(socket)
        assert far.hear()["detail"] == "The first message is no text."
        assert far.rest() == ([], 1008)


def test_who_has_all_finals_of_a_session_that_ended_is_told_of_the_end_again(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        name = far.start()["session"]
        far.send_sound(np.zeros(16_000, np.float32))
        far.say("session.flush")
        assert far.until("final")[-1]["endpoint"] == "flush"
        far.say("credit", received=1)
        far.say("session.end")
        assert not finals(far.rest()[0])
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        assert far.start(session=name, received=1)["event"] == 1
        events, code = far.rest()
    assert [event["type"] for event in events] == ["session.ended"]
    assert code == 1000


def test_a_state_is_packed_beside_the_others_and_nothing_overtakes_it(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, seal = threading.Event(), Sealer.seal

    def slowly(self: Sealer, *given: Any) -> bytes:
        assert may.wait(30)
        return seal(self, *given)

    monkeypatch.setattr(Sealer, "seal", slowly)
    with commands.websocket_connect(PATH) as first, commands.websocket_connect(PATH) as second:
        waits, goes_on = FarEnd(first), FarEnd(second)
        waits.start(options=SURE)
        goes_on.start(options=SURE)
        waits.say("session.export")
        waits.send_sound(babble(3, 2))
        waits.say("session.end")
        goes_on.send_sound(babble(3, 2))
        goes_on.say("session.end")
        said = finals(goes_on.rest()[0])
        assert said
        may.set()
        events, _ = waits.rest()
    order = [event["type"] for event in events if event["type"] != "credit"]
    assert order[0] == "session.exported"
    assert finals(events) == said


def test_states_that_a_client_asked_for_that_left_are_not_packed(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    may, packed, seal = threading.Event(), [], Sealer.seal

    def counted(self: Sealer, *given: Any) -> bytes:
        packed.append(given)
        assert may.wait(30)
        return seal(self, *given)

    monkeypatch.setattr(Sealer, "seal", counted)
    sessions = sessions_of(commands)
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        name = far.start()["session"]
        for _ in range(20):
            far.say("session.export")
        live = sessions.lives[name]
        until = time.monotonic() + 10
        while not (packed and live.session.held > 10 * 4096) and time.monotonic() < until:
            time.sleep(0.01)
    until = time.monotonic() + 10
    while live.connection is not None and time.monotonic() < until:
        time.sleep(0.01)
    may.set()
    while live.session.held and time.monotonic() < until:
        time.sleep(0.01)
    assert live.session.held == 0
    assert len(packed) == 1
