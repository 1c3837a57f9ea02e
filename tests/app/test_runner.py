"""Full, late, busy, gone: what the engine does when it is not alone with one patient client."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.engine.service import Service
from models.media.cancellation import check_cancelled
from tests.app.conftest import Open, running_server, service

URL = "/v1/models/captioner/predict"


class Gate:
    """Holds whoever passes until it is opened, and says that somebody waits."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.reached.set()
        assert self.opened.wait(30)
        return self.real(*args, **kwargs)


def gated(client: TestClient, monkeypatch: pytest.MonkeyPatch, stage: str) -> Gate:
    """Put a gate before a stage of the captioner."""
    pipeline = service(client).registry.get("captioner")
    gate = Gate(getattr(pipeline, stage))
    monkeypatch.setattr(pipeline, stage, gate)
    return gate


@pytest.mark.parametrize("stage", ["decode", "features", "searches"])
def test_no_stage_blocks_the_event_loop(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    gate = gated(client, monkeypatch, stage)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.post, URL, files={"image": jpeg})
        assert gate.reached.wait(10)
        assert client.get("/healthz").status_code == 200
        assert not answer.done()
        gate.opened.set()
        assert answer.result(30).status_code == 200


def test_a_full_house_says_when_to_come_back(open_client: Open, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client(max_waiting=1)
    gate = gated(client, monkeypatch, "searches")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, URL, files={"image": jpeg})
        assert gate.reached.wait(10)
        refused = client.post(URL, files={"image": jpeg})
        gate.opened.set()
        assert first.result(30).status_code == 200
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert client.post(URL, files={"image": jpeg}).status_code == 200


def test_the_deadline_is_kept_and_the_next_request_works(
    open_client: Open, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(deadline_seconds=0.5)
    with monkeypatch.context() as patched:
        gate = gated(client, patched, "searches")
        answer = client.post(URL, files={"image": jpeg})
        gate.opened.set()
    assert (answer.status_code, answer.headers["content-type"]) == (504, "application/problem+json")
    assert client.post(URL, files={"image": jpeg}).status_code == 200


def test_decoding_that_nobody_waits_for_ends(open_client: Open, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    client = open_client(deadline_seconds=0.5, decode_workers=1)
    ended = threading.Event()

    def endless(*_: object) -> None:
        try:
            while True:
                time.sleep(0.01)
                check_cancelled()
        finally:
            ended.set()

    with monkeypatch.context() as patched:
        patched.setattr(service(client).registry.get("captioner"), "decode", endless)
        assert client.post(URL, files={"image": jpeg}).status_code == 504
        assert ended.wait(5)
    assert client.post(URL, files={"image": jpeg}).status_code == 200


def test_an_upload_that_never_ends_is_given_up(zoo: Path) -> None:
    def trickle() -> Iterator[bytes]:
        for _ in range(200):
            yield b"--b"
            time.sleep(0.02)

    with running_server(zoo, upload_seconds=0.3) as (address, state):
        headers = {"Content-Type": "multipart/form-data; boundary=" + "b" * 60}
        with pytest.raises(httpx2.HTTPError):
            httpx2.post(f"http://{address}{URL}", content=trickle(), headers=headers, timeout=10).raise_for_status()
        assert not state.admission.reservations


def test_two_requests_at_once_get_their_own_answers(client: TestClient, jpeg: bytes) -> None:
    def caption(language: str) -> str:
        body = client.post(URL, files={"image": jpeg}, data={"language": language}).json()
        return str(body["captions"][0]["language"])

    languages = ["en", "zh"] * 8
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(caption, languages)) == languages


def test_nothing_runs_for_a_client_that_left_its_stream(
    zoo: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def endless() -> Iterator[dict[str, Any]]:
        try:
            for index in range(10_000):
                time.sleep(0.005)
                yield {"token": "a", "text": "a", "index": index}
        finally:
            closed.set()

    with running_server(zoo) as (address, state):
        monkeypatch.setattr(state.registry.get("captioner"), "searches", lambda _: [endless()])
        headers = {"Accept": "text/event-stream"}
        with httpx2.stream("POST", f"http://{address}{URL}", files={"image": jpeg}, headers=headers) as answer:
            # Kept by name: an iterator that is collected closes the connection.
            lines = answer.iter_lines()
            assert next(lines) == "event: token"
            assert len(state.admission.reservations) == 1
        assert closed.wait(5)
        _wait_until_empty(state)


def _wait_until_empty(state: Service) -> None:
    give_up = time.monotonic() + 5
    while state.admission.reservations:
        assert time.monotonic() < give_up, "the place was never given back"
        time.sleep(0.01)
