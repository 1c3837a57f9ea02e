"""Alive at once, ready only when warmed up, and no longer ready while draining."""

import threading
import time

import pytest
from fastapi.testclient import TestClient

from app.engine.runner import Runner
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import Open, service, wait_until_loaded


def test_ready_comes_after_the_warm_up(zoo: object, monkeypatch: pytest.MonkeyPatch, jpeg: bytes) -> None:
    warm = threading.Event()
    real = Runner.warm_up

    def slow(self: Runner, pipeline: object) -> None:
        assert warm.wait(30)
        real(self, pipeline)  # type: ignore[arg-type]

    monkeypatch.setattr(Runner, "warm_up", slow)
    settings = Settings(model_dir=[zoo], device="cpu", threads=1)  # type: ignore[list-item]
    with TestClient(create_app(settings)) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        for answer in (client.get("/readyz"), client.post("/v1/models/captioner/predict", files={"image": jpeg})):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) > 0
            assert answer.headers["content-type"] == "application/problem+json"
        warm.set()
        wait_until_loaded(service(client))
        assert client.get("/readyz").json() == {"status": "ready"}


def test_ready_does_not_wait_for_the_measuring_nor_does_it_matter_if_that_fails(
    zoo: object, monkeypatch: pytest.MonkeyPatch, jpeg: bytes
) -> None:
    asked, told = threading.Event(), threading.Event()

    def failing(_: Runner, pipeline: object, *, aside: bool) -> None:
        assert aside
        asked.set()
        assert told.wait(30)
        raise ValueError("its batches cannot be run")

    monkeypatch.setattr(Runner, "measure", failing)
    settings = Settings(model_dir=[zoo], device="cpu", threads=1)  # type: ignore[list-item]
    with TestClient(create_app(settings)) as client:
        wait_until_loaded(service(client))
        assert asked.wait(30)
        assert client.get("/readyz").status_code == 200
        for _ in range(2):
            answer = client.post("/v1/models/captioner/predict", files={"image": jpeg})
            assert answer.status_code == 200
            told.set()


def test_checkpoints_are_batched_once_they_are_measured(open_client: Open) -> None:
    serving = service(open_client())
    (pipeline,) = serving.registry.pipelines.values()
    until = time.monotonic() + 30
    while not serving.runner.lane(pipeline).most_steps and time.monotonic() < until:
        time.sleep(0.01)
    assert serving.runner.lane(pipeline).most_steps == {"image": 16}


def test_draining_is_alive_and_not_ready(open_client: Open, jpeg: bytes) -> None:
    client = open_client()
    service(client).draining = True
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    # Who is here already is still served.
    assert client.post("/v1/models/captioner/predict", files={"image": jpeg}).status_code == 200


def test_a_service_whose_device_runs_nothing_any_more_is_not_ready(open_client: Open) -> None:
    client = open_client()
    (device,) = service(client).runner._devices.values()
    device.close()
    device._thread.join(10)
    answer = client.get("/readyz")
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_may_ask_for_the_head_only(client: TestClient, path: str) -> None:
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_root_leads_to_the_documentation(client: TestClient) -> None:
    answer = client.get("/", follow_redirects=False)
    assert answer.is_redirect
    assert answer.headers["location"] == "docs"
    assert client.get("/").text == client.get("/docs").text
