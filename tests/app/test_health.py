"""Alive at once, ready only when warmed up, and no longer ready while draining."""

import threading

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


def test_draining_is_alive_and_not_ready(open_client: Open, jpeg: bytes) -> None:
    client = open_client()
    service(client).draining = True
    assert client.get("/healthz").status_code == 200
    answer = client.get("/readyz")
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    # Who is here already is still served.
    assert client.post("/v1/models/captioner/predict", files={"image": jpeg}).status_code == 200
