"""A session outlives its connection, and its server: nothing is lost, and nothing is said twice."""

import time
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.engine.sessions import Sessions
from tests.app.conftest import service
from tests.app.stream.conftest import PATH, FarEnd, finals, serving, sessions_of
from tests.models.streaming.sounds import RATE, babble

SURE = {"threshold": 0.2}
SOUND = babble(5, 2)
SIZE = 1280
CHUNKS = [SOUND[at : at + SIZE] for at in range(0, len(SOUND), SIZE)]


@pytest.fixture(scope="module")
def whole(commands: TestClient) -> list[Any]:
    """The finals of all of the sound in one connection."""
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options=SURE)
        far.send_sound(SOUND, SIZE)
        far.say("session.end")
        said = finals(far.rest()[0])
    assert len(said) > 3
    return said


def test_a_dropped_connection_goes_on_where_it_was(commands: TestClient, whole: list[Any]) -> None:
    chance = np.random.default_rng(1)
    said: list[Any] = []
    name, at, received = None, 0, 0
    while at < len(CHUNKS):
        with commands.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            started = far.start(options=SURE) if name is None else far.start(session=name, received=received)
            name = started["session"]
            # The client sends again what it does not know to have come; all of that is known here.
            at = started["next_sequence"]
            for chunk in CHUNKS[at : at + int(chance.integers(5, 25))]:
                far.send_sound(chunk, SIZE)
                at += 1
            if at < len(CHUNKS):
                far.say("session.export")
                # Some of the events before are taken, and some are lost with the line.
                events = far.until("session.exported")
                taken = finals(events)[: int(chance.integers(0, 3))]
            else:
                far.say("session.end")
                taken = finals(far.rest()[0])
            said += taken
            received = said[-1][0] if said else 0
    assert said == whole


def test_chunks_that_come_twice_count_once(commands: TestClient, whole: list[Any]) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options=SURE)
        for number, chunk in enumerate(CHUNKS):
            far.send_sound(chunk, SIZE)
            if number % 7 == 3:
                before = far.sequence
                far.sequence -= 3
                for again in CHUNKS[number - 2 : number + 1]:
                    far.send_sound(again, SIZE)
                assert far.sequence == before
        far.say("session.end")
        assert finals(far.rest()[0]) == whole


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_another_server_goes_on_with_an_exported_session(rate: int) -> None:
    """The first server is killed; the second one knows nothing of it but the key."""
    form = {"audio": {"encoding": "pcm_f32le", "sample_rate": rate}}
    sound = babble(4, 5)
    size = rate // 25
    with serving(stream_key="shared") as first, first.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options=SURE, modalities=form)
        far.send_sound(sound, size, "<f4")
        far.say("session.end")
        whole = finals(far.rest()[0])
    assert whole
    half = size * 23
    with serving(stream_key="shared") as first, first.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options=SURE, modalities=form)
        far.send_sound(sound[:half], size, "<f4")
        far.say("session.export")
        events = far.until("session.exported")
        exported = events[-1]
        # These get lost with the server.
        far.send_sound(sound[half : half + 3 * size], size, "<f4")
    assert exported["next_sequence"] == 23
    said = finals(events)
    with serving(stream_key="shared") as second, second.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        started = far.start(state=exported["state"])
        assert started["next_sequence"] == 23
        assert started["event"] == len(said)
        far.send_sound(sound[half:], size, "<f4")
        far.say("session.end")
        said += finals(far.rest()[0])
    assert said == whole


def test_events_after_an_export_are_not_said_again(commands: TestClient, whole: list[Any]) -> None:
    """The state is older than what the client has heard: the client says how far it has heard."""
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options=SURE)
        far.send_sound(np.concatenate(CHUNKS[:5]), SIZE)
        far.say("session.export")
        events = far.until("session.exported")
        state = events[-1]["state"]
        far.send_sound(np.concatenate(CHUNKS[5:]), SIZE)
        said = finals(events + far.until("final"))
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        started = far.start(state=state, received=said[-1][0])
        far.send_sound(np.concatenate(CHUNKS[started["next_sequence"] :]), SIZE)
        far.say("session.end")
        said += finals(far.rest()[0])
    assert said == whole


def test_states_that_do_not_fit_are_refused_with_the_reason(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        far.say("session.export")
        state = far.until("session.exported")[-1]["state"]
    middle = len(state) // 2
    changed = state[:middle] + ("A" if state[middle] != "A" else "B") + state[middle + 1 :]
    for bad, reason in ((changed, "signature is wrong"), ("AAAA", "not the state"), ("no base64!", "not base64")):
        with commands.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            event = far.start(state=bad)
            assert reason in event["detail"]
            assert event["field"] == "state"
            assert far.rest() == ([], 1008)
    with serving(stream_state_seconds=0.05, stream_key="key") as client:
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.start()
            far.say("session.export")
            state = far.until("session.exported")[-1]["state"]
        time.sleep(0.1)
        with client.websocket_connect(PATH) as socket:
            assert "seconds old" in FarEnd(socket).start(state=state)["detail"]


def test_a_state_is_small(commands: TestClient) -> None:
    form = {"audio": {"encoding": "pcm_f32le", "sample_rate": 48_000}}
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(modalities=form)
        far.send_sound(babble(10), 1500, "<f4")
        far.say("session.export")
        state = far.until("session.exported")[-1]["state"]
    assert len(state) * 3 / 4 <= 16 * 1024


def test_a_state_that_a_first_message_cannot_carry_is_not_exported() -> None:
    with serving(stream_chunk_bytes=1024) as client, client.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        far.send_sound(babble(0.3), 512)
        far.say("session.export")
        error = far.until("error")[-1]
        assert error["limit"] == "1536 bytes"
        assert "taken back" in error["detail"]
        far.say("session.end")
        assert far.rest()[1] == 1000


def test_a_state_may_be_larger_than_a_chunk() -> None:
    with serving(stream_chunk_bytes=8192) as client:
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.start()
            far.send_sound(babble(1))
            far.say("session.export")
            state = far.until("session.exported")[-1]["state"]
        assert len(state) > 8192
        with client.websocket_connect(PATH) as socket:
            assert FarEnd(socket).start(state=state)["type"] == "session.started"


def test_a_session_that_stays_away_is_forgotten() -> None:
    with serving(stream_idle_seconds=0.3) as client:
        with client.websocket_connect(PATH) as socket:
            name = FarEnd(socket).start()["session"]
        deadline = time.monotonic() + 10
        while sessions_of(client).lives:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            assert far.start(session=name)["title"] == "Unknown session"
            assert far.rest()[1] == 1008


def test_a_new_connection_takes_the_session_over(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as old:
        before = FarEnd(old)
        name = before.start()["session"]
        with commands.websocket_connect(PATH) as new:
            after = FarEnd(new)
            assert after.start(session=name, received=0)["session"] == name
            assert before.rest() == ([], 1000)
            after.send_sound(np.zeros(RATE, np.float32))
            after.say("session.end")
            assert after.rest()[1] == 1000


def test_what_was_answered_after_the_end_is_heard_by_one_who_comes_back(commands: TestClient, whole: list[Any]) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        name = far.start(options=SURE)["session"]
        far.send_sound(SOUND, SIZE)
        far.say("session.end")
    sessions = sessions_of(commands)
    give_up = time.monotonic() + 20
    while name in sessions.lives and sessions.lives[name].over is None:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    # Again and again, for nobody knows what of it arrived.
    for received in (0, 2, 2):
        with commands.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            started = far.start(session=name, received=received, credit=0)
            assert (started["next_sequence"], started["event"]) == (len(CHUNKS), len(whole))
            # While it is being told it again, it is not forgotten: the line may drop once more.
            assert commands.portal is not None
            commands.portal.call(_forget, sessions)
            assert name in sessions.lives.keys() | sessions._ended.keys()
            far.say("credit", events=1000)
            # It cannot know that the server has heard the end.
            far.send_sound(CHUNKS[-1], SIZE)
            far.say("session.end")
            events, code = far.rest()
            assert finals(events) == whole[received:]
            assert events[-1]["type"] == "session.ended"
            assert code == 1000
    assert name not in sessions.lives


async def _forget(sessions: Sessions) -> None:
    sessions._forget_ended()


def test_a_session_outlives_its_models_unloading_and_is_of_one_model() -> None:
    with serving() as client:
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            name = far.start()["session"]
            far.send_sound(CHUNKS[0], SIZE)
            far.say("session.export")
            far.until("session.exported")
        assert client.portal is not None
        client.portal.call(service(client).swaps.unload, "voice-commands")
        with client.websocket_connect(PATH.replace("voice-commands", "other")) as socket:
            socket.send_json({"type": "session.start", "session": name, "received": 0})
            refused = socket.receive_json()
            assert (refused["type"], refused.get("field")) == ("error", "session"), refused
            assert "voice-commands" in refused["remedy"]
        with client.websocket_connect(PATH) as socket:
            assert FarEnd(socket).start(session=name, received=0)["next_sequence"] == 1
        with client.websocket_connect(PATH) as socket:
            socket.send_json({"type": "session.start", "session": "nobody", "received": 0})
            assert socket.receive_json()["problem"].endswith("unknown-session")
