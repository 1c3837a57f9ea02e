"""An exported state takes along what its client could not hear, and one that does not fit is refused."""

import base64
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
