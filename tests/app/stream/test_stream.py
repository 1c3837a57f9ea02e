"""Sessions over a WebSocket: what a well-behaved client is promised."""

from fastapi.testclient import TestClient

from app.settings import ZOO
from tests.app.stream.conftest import PATH, FarEnd, serving, sessions_of
from tests.models.streaming.sounds import babble

SURE = {"threshold": 0.2}


def test_sound_comes_in_and_answers_come_out(commands: TestClient) -> None:
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        started = far.start(options=SURE | {"interim": 0.2, "top_k": 3})
        assert started["type"] == "session.started"
        assert started["next_sequence"] == started["event"] == 0
        assert started["chunk"]["seconds"] == 0.08
        far.send_sound(babble(3))
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert events[-1]["type"] == "session.ended"
    assert events[-1]["reason"] == "end"
    said = [event for event in events if event["type"] == "final"]
    assert [event["event"] for event in said] == list(range(1, len(said) + 1))
    assert len(said) > 1
    assert said[-1]["endpoint"] == "end"
    assert said[-1]["end"] == 3
    assert any(event["type"] == "partial" for event in events)
    assert started["session"] not in sessions_of(commands).lives


def test_a_card_says_whether_a_checkpoint_streams_and_why_not(commands: TestClient) -> None:
    card = commands.get("/v1/models/voice-commands").json()
    assert card["streaming"] is True
    assert "streaming_refusal" not in card
    with serving(model_dir=[ZOO / "digits"]) as other:
        card = other.get("/v1/models/digits").json()
    assert card["streaming"] is False
    assert "cannot stream" in card["streaming_refusal"]
