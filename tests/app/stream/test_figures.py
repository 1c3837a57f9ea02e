"""Operators see sessions come, go and be refused."""

import pytest
import structlog
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from tests.app.stream.conftest import PATH, FarEnd, serving
from tests.models.streaming.sounds import babble


def figures(client: TestClient) -> dict[str, float]:
    """What /metrics shows of streams."""
    lines = [line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if "fusionrnn_stream_" in line]
    return {name: float(value) for name, value in lines if name[0] != "#" and "_created" not in name}


def test_sessions_are_counted_by_their_end_and_refusals_by_their_problem() -> None:
    with serving(stream_idle_seconds=0.3, stream_sessions=1) as client:
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.start()
            assert figures(client)["fusionrnn_stream_sessions"] == 1
            with client.websocket_connect(PATH) as other:
                assert FarEnd(other).start()["status"] == 503
            far.say("session.end")
            far.rest()
        with client.websocket_connect(PATH) as socket:
            FarEnd(socket).start()
            assert FarEnd(socket).rest()[0][-1]["reason"] == "idle"
        with client.websocket_connect(PATH) as socket:
            far = FarEnd(socket)
            far.start()
            far.send(b"odd")
            far.rest()
        origin = {"Origin": "https://other.example"}
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect(PATH, headers=origin):
            pass
        assert figures(client) == {
            "fusionrnn_stream_sessions": 0,
            'fusionrnn_stream_ended_total{reason="end"}': 1,
            'fusionrnn_stream_ended_total{reason="idle"}': 1,
            'fusionrnn_stream_ended_total{reason="error"}': 1,
            'fusionrnn_stream_refused_total{reason="unavailable"}': 1,
            'fusionrnn_stream_refused_total{reason="forbidden"}': 1,
        }


def test_a_session_has_a_line_at_its_start_and_one_at_its_end(commands: TestClient) -> None:
    with structlog.testing.capture_logs() as lines, commands.websocket_connect(PATH) as socket:
        far = FarEnd(socket)
        name = far.start()["session"]
        far.send_sound(babble(0.2))
        far.say("session.end")
        far.rest()
    began, ended = (line for line in lines if line["event"].startswith("a stream"))
    facts = {"model": "voice-commands", "session": name[:8], "resumed": False}
    assert began == {"event": "a stream began", "log_level": "info"} | facts
    assert (ended["event"], ended["reason"], ended["session"]) == ("a stream ended", "end", name[:8])
    assert 0 < ended["seconds"] < 60
    # Whoever reads the log cannot take the session up.
    assert name not in str(lines)
