"""Sessions over a WebSocket: what a well-behaved client is promised."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.settings import ZOO
from tests.app.stream.conftest import PATH, FarEnd, serving, sessions_of
from tests.models.streaming.sounds import babble
from tests.models.streaming.test_container import coded

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
    # A posted video would do for its sound, and a stream's would not.
    assert (card["streaming_modalities"], "video" in card["modalities"]) == (["audio"], True)
    with serving(model_dir=[ZOO / "digits"]) as other:
        card = other.get("/v1/models/digits").json()
    assert card["streaming"] is False
    assert "streaming_modalities" not in card
    assert "cannot stream" in card["streaming_refusal"]


def test_pictures_are_captioned_over_the_same_protocol(zoo: Path, jpeg: bytes) -> None:
    with serving(model_dir=[zoo]) as client:
        assert client.get("/v1/models/captioner").json()["streaming"] is True
        with client.websocket_connect("/v1/models/captioner/stream") as socket:
            far = FarEnd(socket)
            started = far.start(modalities={"image": {"encoding": "jpeg"}}, options={"language": "zh"})
            assert started["chunk"]["modalities"] == ["image"]
            far.send(jpeg, modality=2, seconds=0.5)
            far.send(b"no picture", modality=2, seconds=1.0)
            far.send(jpeg, modality=2, seconds=1.5)
            far.say("session.end")
            events, code = far.rest()
    assert code == 1000
    said = [event for event in events if event["type"] == "final"]
    assert [(event["endpoint"], event["start"], event["end"]) for event in said] == [
        ("change", 0.5, 0.5),
        ("end", 0.5, 1.5),
    ]
    assert said[0]["captions"][0]["language"] == "zh"
    assert [event["sequence"] for event in events if event["type"] == "warning"] == [1]


def test_coded_chunks_are_answered_over_the_same_protocol(commands: TestClient) -> None:
    data = coded("webm", 3)
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(modalities={"audio": {"encoding": "webm"}}, options=SURE)
        for at in range(0, len(data), 700):
            far.send(data[at : at + 700])
        far.say("session.end")
        events, code = far.rest()
    assert code == 1000
    assert events[-2]["end"] == pytest.approx(3, abs=0.05)
    with commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        far.start(modalities={"audio": {"encoding": "ogg"}})
        far.send(b"no container at all" * 100)
        far.say("session.end")
        events, code = far.rest()
    assert code == 1008
    assert "no ogg file" in events[-1]["detail"] or "no sound" in events[-1]["detail"]
