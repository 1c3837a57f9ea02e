"""Behind a reverse proxy under a path of its own, and asked by pages of other origins."""

import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError
from starlette.testclient import WebSocketDenialResponse
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from websockets.sync.client import connect

from app.settings import Settings
from tests.app.conftest import Open, running_server

PREDICT = "/v1/models/captioner/predict"
PAGE = {"Origin": "https://app.example"}


@pytest.fixture(scope="module")
def behind(open_client: Open) -> TestClient:
    """A client of a service that pages of https://app.example may ask."""
    return open_client(cors_origins=[PAGE["Origin"]])


def test_a_server_under_a_path_answers_what_its_proxy_hands_on(zoo: Path, jpeg: bytes) -> None:
    with running_server(zoo, root_path="/rnn") as (address, _), httpx2.Client(base_url=f"http://{address}") as client:
        answer = client.post(PREDICT, files={"image": jpeg})
        assert answer.status_code == 200
        assert "queue" in answer.headers["Server-Timing"], "it went around the admission"
        assert client.get("/").headers["Location"] == "docs", "relative, so that it stays under the proxy's path"
        assert '"/rnn/openapi.json"' in client.get("/docs").text.replace("'", '"')
        assert client.get("/openapi.json").json()["servers"] == [{"url": "/rnn"}]
        with connect(f"ws://{address}/v1/models/captioner/stream") as socket:
            socket.send(json.dumps({"type": "session.start", "modalities": {"image": {"encoding": "jpeg"}}}))
            assert (said := json.loads(socket.recv()))["type"] == "session.started", said


def test_a_page_of_an_allowed_origin_may_ask_and_read_the_answer(behind: TestClient, jpeg: bytes) -> None:
    asked = PAGE | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-Request-Timeout"}
    allowed = behind.options(PREDICT, headers=asked)
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
    assert "x-request-timeout" in allowed.headers["Access-Control-Allow-Headers"].lower()
    for answer in (
        behind.post(PREDICT, files={"image": jpeg}, headers=PAGE),
        behind.post(PREDICT, files={"image": jpeg}, headers=PAGE | {"X-Request-Timeout": "soon"}),
    ):
        assert answer.headers["Access-Control-Allow-Origin"] == PAGE["Origin"]
        assert "X-Request-ID" in answer.headers["Access-Control-Expose-Headers"]


def test_what_browsers_ask_first_is_logged_and_counted(behind: TestClient) -> None:
    counted = 'fusionrnn_requests_total{model="-",status="200"}'
    asked = PAGE | {"Access-Control-Request-Method": "POST"}
    with capture_logs([merge_contextvars]) as logged:
        answer = behind.options(PREDICT, headers=asked)
    (line,) = logged
    assert (line["event"], line["method"], line["status"]) == ("request", "OPTIONS", 200)
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert counted in behind.get("/metrics").text


def test_a_page_may_read_that_the_server_failed(behind: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.engine.registry.Registry.profiles", 1)
    with capture_logs():
        answer = behind.get("/v1/models", headers=PAGE)
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (500, PAGE["Origin"])
    assert answer.headers["X-Request-ID"] in answer.json()["remedy"]


def test_pages_of_other_origins_may_not(behind: TestClient, client: TestClient) -> None:
    stranger = {"Origin": "https://other.example", "Access-Control-Request-Method": "POST"}
    assert behind.options(PREDICT, headers=stranger).status_code == 400
    assert "Access-Control-Allow-Origin" not in client.get("/v1/models", headers=PAGE).headers


@pytest.mark.parametrize("path", ["/v1/collections/mine/", "/v1/collections/mine/items/%2e%2e%2f", "/v1/models/"])
def test_no_other_address_is_meant_than_the_one_that_is_named(client: TestClient, path: str) -> None:
    """A client that follows a redirect to items/.. asks for the collection, and would delete it."""
    for method in ("GET", "DELETE"):
        answer = client.request(method, path, headers={"Host": "other.example"}, follow_redirects=False)
        assert answer.status_code == 404
        assert "Location" not in answer.headers


STREAM = "/v1/models/captioner/stream"
START = {"type": "session.start", "modalities": {"image": {"encoding": "jpeg"}}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://app.example"},
        {"Origin": "http://testserver"},
        {"Origin": "https://seen.example", "X-Forwarded-Host": "seen.example"},
    ],
    ids=["no page", "allowed", "its own", "its own behind a proxy"],
)
def test_sessions_are_opened_by_whom_they_may(behind: TestClient, headers: dict[str, str]) -> None:
    with behind.websocket_connect(STREAM, headers=headers) as socket:
        socket.send_json(START)
        assert socket.receive_json()["type"] == "session.started"


@pytest.mark.parametrize("origin", ["https://other.example", "null", "http://app.example"])
def test_pages_of_other_origins_open_no_sessions(behind: TestClient, client: TestClient, origin: str) -> None:
    for server in (behind, client):
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            server.websocket_connect(STREAM, headers={"Origin": origin}),
        ):
            pass
        assert refused.value.status_code == 403
        assert "FUSIONRNN_CORS_ORIGINS" in refused.value.json()["remedy"]


@pytest.mark.parametrize("wrong", ["rnn", "/rnn/", "/", "/a b", "https://host/rnn"])
def test_a_path_that_no_proxy_has_is_refused(wrong: Any) -> None:
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=wrong)
