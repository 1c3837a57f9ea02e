"""What a client may do wrong has a defined end, and no other session notices."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from app.settings import ZOO
from models.streaming.recurrent import RecurrentStreams
from tests.app.conftest import service
from tests.app.stream.conftest import PATH, S16, FarEnd, finals, pcm, serving, sessions_of
from tests.models.streaming.sounds import babble

SOUND = babble(2, 14)


@contextmanager
def neighbour(client: TestClient) -> Iterator[None]:
    """Another session, half of whose sound comes before the block and half after it: it hears what it would alone."""
    with client.websocket_connect(PATH) as socket:
        alone = FarEnd(socket)
        alone.start(options={"threshold": 0.2})
        alone.send_sound(SOUND)
        alone.say("session.end")
        wanted = finals(alone.rest()[0])
    with client.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options={"threshold": 0.2})
        far.send_sound(SOUND[:16_640])
        yield
        far.send_sound(SOUND[16_640:])
        far.say("session.end")
        assert finals(far.rest()[0]) == wanted


@pytest.mark.parametrize(
    ("first", "field", "said"),
    [
        ("no json", None, "JSON"),
        ("[]", None, "object"),
        ('{"type": "session.begin"}', "type", "of another type"),
        ('{"type": "session.start"}', "modalities", "needs audio"),
        ('{"type": "session.start", "colour": 1}', "colour", "no part or option"),
        ('{"type": "session.start", "modalities": {"video": {}}}', "modalities", "not video"),
        ('{"type": "session.start", "modalities": {"audio": {}}}', "modalities.audio", "encoding"),
        (
            '{"type": "session.start", "modalities": {"audio": {"encoding": "pcm_s16le", "sample_rate": 16001}}}',
            "modalities.audio.sample_rate",
            "11025, 12000, 16000",
        ),
        (
            json.dumps({"type": "session.start", "modalities": S16, "options": {"threshold": 7}}),
            "threshold",
            "less than or equal to 1",
        ),
        ('{"type": "session.start", "state": "é"}', "state", "not base64"),
        ('{"type": "session.start", "session": "x", "options": {"threshold": 0.5}}', "session", "keeps its modalities"),
    ],
)
def test_a_start_that_is_wrong_is_told_so(commands: TestClient, first: str, field: str | None, said: str) -> None:
    with commands.websocket_connect(PATH) as socket:
        socket.send_text(first)
        events, code = FarEnd(socket).rest()
    assert code == 1008
    (event,) = events
    assert event["type"] == "error"
    assert said in event["detail"]
    assert field is None or event["field"] == field
    assert event["remedy"]


@pytest.mark.parametrize(
    ("chunk", "code", "said"),
    [
        (b"", 1008, "shorter than its header"),
        (b"\0" * 15, 1008, "shorter than its header"),
        (b"\0" * 4 + b"\1" + b"\0" * 11, 1008, "modality video"),
        (b"\0" * 4 + b"\xff" + b"\0" * 11, 1008, "modality 255"),
        (b"\0" * 16 + b"odd", 1008, "no whole number of 2-byte samples"),
        (b"\0" * 2**20, 1009, "1048576 bytes"),
        (" " * 2**19, 1009, "too long"),
    ],
)
def test_a_chunk_that_is_wrong_ends_its_session(commands: TestClient, chunk: bytes | str, code: int, said: str) -> None:
    with neighbour(commands), commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        socket.send_text(chunk) if isinstance(chunk, str) else socket.send_bytes(chunk)
        events, closed = far.rest()
    assert closed == code
    assert said in events[-1]["detail"]
    assert not sessions_of(commands).lives


def test_garbage_is_just_noise_to_pcm(commands: TestClient) -> None:
    garbage = np.random.default_rng(0).bytes(64_000)
    with neighbour(commands), commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        for at in range(0, len(garbage), 2560):
            far.send(garbage[at : at + 2560])
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert events[-2]["endpoint"] == "end"


def test_samples_that_are_no_numbers_count_as_silence(commands: TestClient) -> None:
    sick = SOUND.copy()
    sick[::100] = np.nan
    sick[5::200] = np.inf
    sick[7::300] = 1e38
    with neighbour(commands), commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(modalities={"audio": {"encoding": "pcm_f32le", "sample_rate": 48_000, "channels": 2}})
        far.send_sound(sick, 1280, "<f4")
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    warnings = [event for event in events if event["type"] == "warning"]
    assert [event["sequence"] for event in warnings] == list(range(25))
    assert "finite" in warnings[0]["detail"]
    assert all(0 <= item["probability"] <= 1 for item in events[-2]["predictions"])


def test_a_gap_is_told_and_mended(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options={"threshold": 0.2})
        far.send(pcm(SOUND[:1280]))
        far.send(pcm(SOUND[2560:3840]), sequence=2)
        event = far.hear()
        assert (event["problem"], event["expected"]) == ("urn:fusionrnn:problem:gap", 1)
        assert (event["status"], event["title"]) == (409, "Chunks are missing")
        far.send_sound(SOUND[1280:])
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert finals(events)[-1][-1] == 2


def test_who_has_no_credit_left_gets_the_state_when_its_session_ends() -> None:
    with serving(stream_total_seconds=3, stream_idle_seconds=30) as client, client.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options={"threshold": 0.2}, credit=1)
        far.send_sound(SOUND)
        events, code = far.rest()
        assert code == 1000
        assert len(finals(events)) == 1
        assert (events[-1]["type"], events[-1]["reason"]) == ("session.ended", "total")
        state = events[-1]["state"]
        with client.websocket_connect(PATH) as another:
            on = FarEnd(another)
            on.start(state=state, received=1)
            on.say("session.end")
            assert len(finals(on.rest()[0])) > 1


def test_gaps_without_end_end_the_session(commands: TestClient) -> None:
    with neighbour(commands), commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        for _ in range(110):
            far.send(b"\0\0", sequence=5)
        events, code = far.rest()
    assert code == 1008
    assert sum(event.get("problem", "").endswith("gap") for event in events) <= 101


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        ('{"type": "session.start"}', "The session has begun already."),
        ('{"type": "session.pause"}', "There is no message of the type 'session.pause'."),
        ('{"kind": "session.flush"}', "The message has no type."),
        ('{"type": "credit", "events": -1}', "greater than or equal to 0"),
        ('{"type": "credit", "events": true}', "valid integer"),
        ('{"type": "credit", "events": "1"}', "valid integer"),
        ('{"type": "session.flush", "a": 1}', "no part or option"),
    ],
)
def test_messages_that_are_wrong_end_the_session(commands: TestClient, text: str, said: str) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        socket.send_text(text)
        events, code = far.rest()
    assert code == 1008
    assert events[-1]["type"] == "error"
    assert said in events[-1]["detail"]
    assert events[-1]["remedy"]


def test_silence_for_an_hour_is_no_trouble(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        minute = np.zeros(60 * 16_000, np.float32)
        for _ in range(3):
            far.send_sound(minute, 16_000)
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    said = [event for event in events if event["type"] == "final"]
    assert [event["endpoint"] for event in said] == ["end"]
    assert said[0]["end"] == 180
    assert said[0]["predictions"][0]["label"] in ("silence", "unknown")


def test_a_client_that_takes_no_events_is_heard_no_more_and_let_go() -> None:
    # Longer than a busy machine takes to fill the outbox: that it passes is said below.
    idle = 600.0
    with (
        serving(stream_events=4, stream_idle_seconds=idle, stream_window_bytes=8192) as client,
        client.websocket_connect(PATH) as socket,
    ):
        far = FarEnd(socket)
        far.start(options={"threshold": 0.05, "refractory": 0, "smoothing": 0}, credit=0)
        (live,) = sessions_of(client).lives.values()
        far.send_sound(babble(30, 2))
        _until(lambda: live.stalled)
        for _ in range(3):
            assert live.over is None
            assert len(live._outbox) <= 8
            assert live.session.waiting <= 8192 + 2560
            with client.websocket_connect(PATH) as other:
                neighbour = FarEnd(other)
                neighbour.start()
                neighbour.send_sound(SOUND)
                neighbour.say("session.end")
                assert finals(neighbour.rest()[0])[-1][-1] == 2
        client.portal.call(setattr, live, "taken", live.taken - idle)  # type: ignore[union-attr]
        _until(lambda: live.over is not None)
        events, code = far.rest()
        assert code == 1008
        assert live.id not in sessions_of(client).lives
        assert not finals(events)
        heard = max(event["acknowledged"] for event in events if event["type"] == "credit")
        assert heard < len(babble(30, 2)) // 1280 // 2


def test_what_is_no_answer_comes_also_without_credit(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options={"threshold": 0.2}, credit=0)
        far.send_sound(babble(5, 2))
        far.say("session.export")
        events = far.until("session.exported")
        assert {"credit", "session.exported"} <= {event["type"] for event in events}
        assert not {"partial", "final"} & {event["type"] for event in events}
        assert events[-1]["event"] > 0, "nothing was held back"
        far.say("session.end")
        far.say("credit", events=100)
        rest, code = far.rest()
    assert [event["type"] for event in rest if event["type"] in ("final", "session.ended")][-1] == "session.ended"
    assert len(finals(rest)) >= events[-1]["event"]
    assert code == 1000


def test_credit_is_kept_by_the_server(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(options={"threshold": 0.2}, credit=1)
        far.send_sound(SOUND)
        far.say("session.flush")
        far.send_sound(SOUND)
        far.say("session.end")
        first = finals(far.until("final"))
        (live,) = sessions_of(commands).lives.values()
        deadline = time.monotonic() + 20
        while live.over is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert live.credit == 0
        assert live.said > 3
        far.say("credit", events=100, received=1)
        events, code = far.rest()
    assert code == 1000
    assert [event[0] for event in first + finals(events)] == list(range(1, live.said + 1))


def test_the_server_gives_room_as_it_consumes(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        started = far.start()
        far.send_sound(np.zeros(16_000 * 40, np.float32), 16_000)
        far.say("session.end")
        events, _ = far.rest()
    room = sum(event["bytes"] for event in events if event["type"] == "credit")
    assert room >= 16_000 * 40 * 2 - started["credit"]


def test_sessions_over_the_limit_are_told_to_come_back_and_others_go_on() -> None:
    with serving(stream_sessions=3) as client, neighbour(client), ExitStack() as held:
        opened = [FarEnd(held.enter_context(client.websocket_connect(PATH))) for _ in range(2)]
        assert [far.start()["type"] for far in opened] == ["session.started"] * 2
        for _ in range(200):
            with client.websocket_connect(PATH) as socket:
                far = FarEnd(socket)
                event = far.start()
                assert event["status"] == 503
                assert event["retry_after"] == 10
                assert event["remedy"] == "Retry after the seconds in retry_after."
                assert far.rest() == ([], 1013)
        opened[0].say("session.end")
        assert opened[0].rest()[1] == 1000
        with client.websocket_connect(PATH) as socket:
            assert FarEnd(socket).start()["type"] == "session.started"


def test_an_idle_session_ends_with_its_state() -> None:
    with serving(stream_idle_seconds=0.5) as client, client.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        far.send_sound(SOUND)
        events, code = far.rest()
        assert code == 1000
        assert events[-1]["reason"] == "idle"
        with client.websocket_connect(PATH) as again:
            assert FarEnd(again).start(state=events[-1]["state"])["next_sequence"] == 25


def test_the_total_limit_ends_a_session_with_its_state() -> None:
    with serving(stream_total_seconds=0.5) as client, client.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        events, code = far.rest()
        assert (code, events[-1]["reason"]) == (1000, "total")
        assert events[-1]["state"]


def test_models_that_cannot_stream_and_models_that_are_not_there(zoo: Any) -> None:
    with serving(model_dir=[ZOO / "digits"]) as client, client.websocket_connect("/v1/models/digits/stream") as socket:
        far = FarEnd(socket)
        event = far.start()
        assert "'digits' cannot stream" in event["detail"]
        assert "/predict" in event["remedy"]
        assert far.rest()[1] == 1008
    with serving(model_dir=[zoo]) as client:
        with client.websocket_connect("/v1/models/captioner/stream") as socket:
            far = FarEnd(socket)
            event = far.start()
            assert "takes image alone" in event["detail"]
            assert far.rest()[1] == 1008
        with client.websocket_connect("/v1/models/nobody/stream") as socket:
            far = FarEnd(socket)
            assert far.start()["status"] == 404
            assert far.rest()[1] == 1008


def test_a_model_that_wakes_too_slowly_is_not_the_clients_fault() -> None:
    async def never(_: str) -> None:
        await asyncio.sleep(60)

    with serving(deadline_seconds=0.2) as client:
        service(client).swaps.awake = never  # type: ignore[method-assign, assignment]
        with client.websocket_connect(PATH) as socket:
            event = FarEnd(socket).start()
            assert event["status"] == 503
            assert event["detail"] == "The model was not ready within 0.2 seconds."
            assert FarEnd(socket).rest() == ([], 1013)


def test_a_session_that_cannot_be_stepped_is_told_as_any_problem(
    commands: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start()
        (live,) = sessions_of(commands).lives.values()
        monkeypatch.setattr(live.session.streams, "_together", lambda *_: 1 / 0)
        far.send_sound(SOUND)
        (event,), code = far.rest()
    assert code == 1008
    assert (event["problem"], event["status"]) == ("urn:fusionrnn:problem:internal", 500)
    assert event["remedy"] == "Start a new one."


@pytest.mark.parametrize("seconds", [float("nan"), 1e307])
def test_a_picture_without_a_time_ends_its_session(zoo: Any, jpeg: bytes, seconds: float) -> None:
    with serving(model_dir=[zoo]) as client, client.websocket_connect("/v1/models/captioner/stream") as socket:
        far = FarEnd(socket)
        far.start(modalities={"image": {"encoding": "jpeg"}})
        far.send(jpeg, modality=2, seconds=seconds)
        events, code = far.rest()
    assert code == 1008
    assert f"a picture at {seconds} seconds" in events[-1]["detail"]


@pytest.mark.parametrize("origin", ["http://[", "https://other.example", "null"])
def test_pages_of_other_origins_or_none_are_refused(commands: TestClient, origin: str) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        commands.websocket_connect(PATH, headers={"Origin": origin}),
    ):
        pass
    assert refused.value.status_code == 403


def test_a_server_that_stops_gives_every_client_its_state() -> None:
    wanted: list[Any] = []
    with serving(stream_key="k") as client:
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.start(options={"threshold": 0.2})
            far.send_sound(SOUND)
            far.say("session.end")
            wanted = finals(far.rest()[0])
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.start(options={"threshold": 0.2})
            far.send_sound(SOUND[:12_800])
            far.say("session.export")
            before = far.until("session.exported")
            client.portal.call(sessions_of(client).drain)  # type: ignore[union-attr]
            events, code = far.rest()
    assert code == 1001
    assert events[-1]["reason"] == "draining"
    with serving(stream_key="k") as client, client.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(state=events[-1]["state"])
        far.send_sound(SOUND[1280 * events[-1]["next_sequence"] :])
        far.say("session.end")
        assert finals(before) + finals(events) + finals(far.rest()[0]) == wanted


def test_a_session_that_opens_while_the_server_stops_is_sent_elsewhere() -> None:
    gate = threading.Event()
    with serving() as client:
        state, sessions = service(client), sessions_of(client)
        (pipeline,) = state.registry.pipelines.values()
        state.runner.device(pipeline.device).submit(lambda: gate.wait(30))
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.say("session.start", modalities=S16)
            _until(lambda: sessions._opening == 1)
            (stepper,) = sessions._steppers.values()
            client.portal.call(sessions.drain)  # type: ignore[union-attr]
            gate.set()
            (event,), code = far.rest()
        assert (event["type"], event["status"], code) == ("error", 503, 1013)
        streams = stepper.streams
        assert isinstance(streams, RecurrentStreams)
        _until(lambda: streams.sessions == 0)
        assert not sessions.lives
        assert not sessions._steppers


def _until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.01)
