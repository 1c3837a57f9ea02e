"""What is decided before a body is read: who gets a reservation, and what one is told who does not."""

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.app.conftest import Open, running_server, service
from tests.app.test_runner import gated
from tests.support import framed_photo

URL = "/v1/models/captioner/predict"


@pytest.mark.parametrize("wrong", ["soon", "0", "-1", "nan", ""])
def test_a_timeout_that_is_none_is_refused(client: TestClient, jpeg: bytes, wrong: str) -> None:
    answer = client.post(URL, files={"image": jpeg}, headers={"X-Request-Timeout": wrong})
    assert (answer.status_code, answer.json()["field"]) == (422, "X-Request-Timeout")
    assert answer.json()["limit"] == "> 0 seconds"


def test_a_clients_own_timeout_is_kept(client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.post(URL, files={"image": jpeg}, headers={"X-Request-Timeout": "30"}).status_code == 200
    with monkeypatch.context() as patched:
        gate = gated(client, patched, "searches")
        answer = client.post(URL, files={"image": jpeg}, headers={"X-Request-Timeout": "0.3"})
        gate.opened.set()
    assert (answer.status_code, answer.json()["type"].rsplit(":")[-1]) == (504, "deadline")


def test_a_client_cannot_ask_for_more_than_the_deadline(
    open_client: Open, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(deadline_seconds=0.3)
    with monkeypatch.context() as patched:
        gate = gated(client, patched, "searches")
        answer = client.post(URL, files={"image": jpeg}, headers={"X-Request-Timeout": "1e9"})
        gate.opened.set()
    assert answer.status_code == 504


def held(client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
    """Ask for something while another request is held, and see that it is refused."""
    gate = gated(client, monkeypatch, "searches")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, URL, files={"image": jpeg})
        assert gate.reached.wait(10)
        answer = client.post(URL, files={"image": jpeg}, **settings)
        gate.opened.set()
        assert first.result(30).status_code == 200
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert int(answer.headers["retry-after"]) >= 1
    assert client.post(URL, files={"image": jpeg}).status_code == 200


def test_what_cannot_make_it_in_time_is_told_at_once(
    open_client: Open, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client()
    # As if the captions before had taken a second.
    service(client).admission.cost("captioner").learn(1.0, 1)
    held(client, jpeg, monkeypatch, headers={"X-Request-Timeout": "0.5"})


def test_bytes_are_bounded(open_client: Open, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client(max_waiting_bytes=len(jpeg))
    gate = gated(client, monkeypatch, "decode")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, URL, files={"image": jpeg})
        assert gate.reached.wait(10)
        answer = client.post(URL, files={"image": jpeg})
        gate.opened.set()
        # It is larger than the bound, with all that goes around the photo, and came into an empty server.
        assert first.result(30).status_code == 200
    assert answer.status_code == 503
    assert "bytes" in answer.json()["detail"]


def test_a_body_that_is_refused_is_not_read(zoo: Path) -> None:
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with running_server(zoo, max_waiting=1) as (address, state):
        host, port = address.split(":")
        with state.admission.enter("captioner"), socket.create_connection((host, int(port)), 10) as line:
            line.sendall(f"{head}Content-Length: 1000000\r\n\r\n".encode())
            # Nothing of the body is ever sent.
            assert line.recv(1000).startswith(b"HTTP/1.1 503")
        assert 'fusionrnn_refused_total{reason="requests"} 1.0' in state.metrics.text().decode()
        assert not state.admission.reservations


def test_a_body_that_stops_coming_gives_its_place_back(zoo: Path) -> None:
    head = f"POST {URL} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    with running_server(zoo, upload_pause_seconds=0.2) as (address, state):
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), 10) as line:
            line.sendall(f"{head}Content-Length: 1000000\r\n\r\n--b".encode())
            answer = line.recv(4000)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"0.2 seconds" in answer
        assert not state.admission.reservations


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream", "image/png"])
def test_what_answers_noticed_is_counted(open_client: Open, accept: str) -> None:
    client = open_client()
    answer = client.post(URL, files={"image": framed_photo()}, headers={"Accept": accept})
    assert answer.status_code == 200
    (line,) = (line for line in client.get("/metrics").text.splitlines() if line.startswith("fusionrnn_notices_total"))
    assert line == 'fusionrnn_notices_total{modality="image",model="captioner",notice="borders"} 1.0'


def test_figures_of_a_request(open_client: Open, jpeg: bytes) -> None:
    client = open_client()
    client.post(URL, files={"image": jpeg})
    client.post(URL, files={"image": b"no photo"})
    client.post("/v1/models/poet/predict", files={"image": jpeg})
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    figures = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if line[0] != "#")
    wanted = {
        'fusionrnn_requests_total{model="captioner",status="200"}': "1.0",
        'fusionrnn_requests_total{model="captioner",status="415"}': "1.0",
        'fusionrnn_requests_total{model="-",status="404"}': "1.0",
        'fusionrnn_request_seconds_count{model="captioner"}': "1.0",
        'fusionrnn_batch_rows_sum{model="captioner"}': "1.0",
        'fusionrnn_batch_steps_total{kind="real",model="captioner"}': "1.0",
        'fusionrnn_models{state="loaded"}': "1.0",
        "fusionrnn_waiting_requests": "0.0",
        "fusionrnn_searches": "0.0",
    } | {
        f'fusionrnn_stage_seconds_count{{model="captioner",stage="{stage}"}}': "1.0"
        for stage in ("queue", "decode", "features", "inference")
    }
    assert {name: figures.get(name) for name in wanted} == wanted
    # Names that a client makes up are no labels.
    assert "poet" not in answer.text
