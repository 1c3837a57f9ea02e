"""Spans of requests, as a collector gets them."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import ValidationError
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import service, wait_until_loaded

ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class Collector(HTTPServer):
    """Keeps what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []

    def spans(self) -> list[Any]:
        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        resources = [resource for request in requests for resource in request.resource_spans]
        assert {values(resource.resource)["service.name"] for resource in resources} <= {"fusionrnn"}
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        assert self.path == "/v1/traces"
        self.server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the standard library
        pass


def values(of: Any) -> dict[str, Any]:
    """Attributes by name."""
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in of.attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    found = Collector()
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{found.server_port}")
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def traced(zoo: Path) -> Any:
    return create_app(Settings(model_dir=[zoo], device="cpu", threads=1, traces=True))


def test_a_request_is_a_span_under_that_of_its_client(zoo: Path, jpeg: bytes, collector: Collector) -> None:
    with capture_logs([merge_contextvars]) as lines, TestClient(traced(zoo)) as client:
        wait_until_loaded(service(client))
        headers = {"traceparent": f"00-{ABOVE}-{PARENT}-01", "X-Request-ID": "mine"}
        path = "/v1/models/captioner/predict"
        assert client.post(path, files={"image": jpeg}, headers=headers).status_code == 200
        assert client.post(path, files={"image": b"no photo"}).status_code == 415
        assert client.get("/healthz").status_code == 200
    good, bad = collector.spans()
    assert good.name == "POST /v1/models/{model}/predict"
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (ABOVE, PARENT)
    said = values(good)
    assert said["http.response.status_code"] == 200
    assert said["url.path"] == path
    assert (said["fusionrnn.request_id"], said["fusionrnn.model"]) == ("mine", "captioner")
    assert all(said[f"fusionrnn.{stage}_ms"] >= 0 for stage in ("queue", "decode", "features", "inference"))
    assert values(bad)["http.response.status_code"] == 415
    assert bad.trace_id.hex() != ABOVE
    (line,) = (line for line in lines if line.get("request_id") == "mine")
    assert line["trace_id"] == ABOVE


def test_requests_are_answered_while_no_collector_is_there(
    zoo: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with TestClient(traced(zoo)) as client:
        wait_until_loaded(service(client))
        assert client.post("/v1/models/captioner/predict", files={"image": jpeg}).status_code == 200


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
    for name in ("opentelemetry", *loaded):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValidationError, match=r"make install, or .* -m pip install opentelemetry-exporter-otlp"):
        Settings(traces=True)
    assert not Settings().traces
