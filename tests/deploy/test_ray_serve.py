"""The application on a local Ray cluster of two replicas, over HTTP and WebSocket, while one of them is killed."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from websockets.sync.client import connect

from tests.repository.project import ROOT
from tests.support import encoded_photo, tiny_captioner

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: make ray installs it and runs this"),
    pytest.mark.slow,
    pytest.mark.timeout(480),
]
START_SECONDS = 240
PREDICT = "/v1/models/captioner/predict"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """``serve run deploy.ray_serve:app`` with two replicas of a tiny captioner; a client of it."""
    folder = tmp_path_factory.mktemp("ray")
    tiny_captioner(folder / "zoo" / "captioner")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = (
        "import ray; from ray import serve; from deploy.ray_serve import Scale, app; import signal;"
        "ray.init('local', num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=10**8);"
        f"serve.start(http_options={{'host': '127.0.0.1', 'port': {port}}});"
        "serve.run(app(Scale(min_replicas=2, max_replicas=2)));"
        "print('running', flush=True); signal.sigwait([signal.SIGTERM]); serve.shutdown(); ray.shutdown()"
    )
    environment = os.environ | {
        "FUSIONRNN_MODEL_DIR": str(folder / "zoo"),
        "FUSIONRNN_COLLECTIONS_DIR": str(folder / "collections"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", start], env=environment, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + START_SECONDS
        while "running" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.5)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def replicas() -> dict[int, str]:
    """Process id -> command of each replica, as the operating system shows them."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if command.startswith("ray::ServeReplica:default:fusionrnn"):
                found[int(entry.name)] = command
    return found


def ask(client: httpx.Client, photo: bytes) -> httpx.Response:
    return client.post(PREDICT, files={"image": photo})


def test_two_replicas_serve_the_whole_application(cluster: httpx.Client) -> None:
    assert len(replicas()) == 2
    assert cluster.get("/healthz").json() == {"status": "ok"}
    assert cluster.get("/readyz").status_code == 200
    assert [card["id"] for card in cluster.get("/v1/models").json()["data"]] == ["captioner"]
    assert "/v1/models/captioner/predict" in cluster.get("/openapi.json").json()["paths"]
    answer = ask(cluster, encoded_photo())
    assert answer.status_code == 200
    assert answer.json()["captions"]


def test_the_services_own_errors_come_through(cluster: httpx.Client) -> None:
    answer = ask(cluster, b"not a picture")
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


def test_events_are_streamed(cluster: httpx.Client) -> None:
    headers = {"Accept": "text/event-stream"}
    with cluster.stream("POST", PREDICT, files={"image": encoded_photo()}, headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert "event: result" in "".join(answer.iter_text())


def test_a_killed_replica_is_not_noticed_and_is_replaced(cluster: httpx.Client) -> None:
    photo = encoded_photo()
    before = set(replicas())
    statuses: list[int] = []

    def client() -> None:
        for _ in range(8):
            answer = ask(cluster, photo)
            statuses.append(answer.status_code)

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    while len(statuses) < len(clients):
        time.sleep(0.01)
    os.kill(min(before), signal.SIGKILL)
    for thread in clients:
        thread.join()
    assert statuses == [200] * 64
    until = time.monotonic() + 60
    while len(replicas()) < 2 and time.monotonic() < until:
        time.sleep(0.5)
    assert min(before) not in replicas()
    assert len(replicas()) == 2


def test_a_stream_stays_with_its_replica(cluster: httpx.Client) -> None:
    # A tiny captioner streams nothing: what comes back over the WebSocket is the application's own refusal.
    address = f"ws://{cluster.base_url.host}:{cluster.base_url.port}/v1/models/captioner/stream"
    with connect(address) as stream:
        stream.send('{"type": "session.start", "modalities": {}}')
        assert "error" in str(stream.recv(timeout=30))


# Ray's own settings use pydantic as it was.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_line_finds_the_application(cluster: httpx.Client) -> None:
    from deploy.ray_serve import Scale, app

    built: Any = app(Scale(min_replicas=2, max_replicas=8, num_gpus=1))
    deployment = built._bound_deployment
    assert deployment.name == "fusionrnn"
    assert deployment.ray_actor_options["num_gpus"] == 1
