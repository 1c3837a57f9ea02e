"""A gigabyte sent to a real server: refused by its length, or cut off where it crosses the limit, and never on disk."""

import base64
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.app.conftest import running_server

GIGABYTE, LIMIT, CHUNK = 2**30, 4 * 2**20, 2**16
HEAD = b'--b\r\nContent-Disposition: form-data; name="image"; filename="photo.jpg"\r\n\r\n'
FORM = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def address(zoo: Path) -> Iterator[str]:
    """Where a server listens that takes 4 MiB a request."""
    with running_server(zoo, max_request_bytes=LIMIT) as (address, _):
        yield address


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("an upload was spooled to disk")

    for name in ("SpooledTemporaryFile", "TemporaryFile", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)


def send_gigabyte(address: str, framing: str) -> tuple[bytes, int]:
    """Post a gigabyte over a bare socket until the server has enough; gives its answer and the bytes it let through."""
    host, port = address.split(":")
    sent = 0
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: {address}\r\n"
            f"Content-Type: {FORM}\r\n{framing}\r\n\r\n".encode()
        )
        try:
            while sent < GIGABYTE:
                piece = (HEAD if sent == 0 else b"") + bytes(CHUNK)
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if "chunked" in framing else piece)
                sent += len(piece)
        except OSError:
            pass
        answer = b""
        try:
            while piece := connection.recv(CHUNK):
                answer += piece
        except ConnectionResetError:
            pass
    return answer, sent


@pytest.mark.parametrize("framing", [f"Content-Length: {GIGABYTE}", "Transfer-Encoding: chunked"])
def test_a_gigabyte_is_cut_off_at_the_limit(address: str, jpeg: bytes, framing: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer, sent = send_gigabyte(address, framing)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    head, body = answer.split(b"\r\n\r\n", 1)
    assert b" 413 " in head.split(b"\r\n")[0]
    assert b"application/problem+json" in head
    assert b"connection: close" in head.lower()
    assert f'"limit":"{LIMIT} bytes"'.encode() in body
    assert b'"remedy"' in body
    # What both kernels' socket buffers swallow comes on top of the limit.
    assert sent < LIMIT + 32 * 2**20
    assert grown < 64 * 1024, "kilobytes of memory, for a gigabyte sent"
    good = httpx2.post(f"http://{address}/v1/models/captioner/predict", files={"image": jpeg}, timeout=30)
    assert good.status_code == 200


def test_a_client_that_waits_for_100_continue_sends_nothing(address: str) -> None:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            f"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: {FORM}\r\n"
            f"Content-Length: {GIGABYTE}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_part_is_cut_off_at_its_own_limit(address: str) -> None:
    data = {"language": "x" * (LIMIT // 2)}
    answer = httpx2.post(f"http://{address}/v1/models/captioner/predict", data=data, files={"image": b"x"}, timeout=30)
    assert (answer.status_code, answer.json()["limit"]) == (413, "4096 bytes")


def test_a_client_that_leaves_amid_its_upload_harms_nobody(address: str, jpeg: bytes) -> None:
    host, port = address.split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(
                f"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: {FORM}\r\n"
                f"Content-Length: 9999\r\n\r\n".encode()
                + HEAD
            )
            time.sleep(0.02)
    good = httpx2.post(f"http://{address}/v1/models/captioner/predict", files={"image": jpeg}, timeout=30)
    assert good.status_code == 200


def test_json_that_waits_behind_others_media_is_here_and_keeps_its_deadline(zoo: Path, jpeg: bytes) -> None:
    body = {"image": base64.b64encode(jpeg + bytes(2**14)).decode()}
    may = threading.Event()
    with (
        running_server(zoo, decode_workers=1, max_waiting_seconds=1000) as (address, state),
        ThreadPoolExecutor() as pool,
    ):
        state.runner._media.submit(may.wait, 30)
        admission = state.admission
        admission.cost("captioner").learn(1.0, 1.0)
        url = f"http://{address}/v1/models/captioner/predict"
        waiting = pool.submit(httpx2.post, url, json=body, timeout=60)
        late = httpx2.post(url, json=body, headers={"X-Request-Timeout": "3"}, timeout=60)
        assert (late.status_code, late.json()["title"]) == (504, "Deadline passed")
        assert admission.backlog() >= 1  # Of the other one, whose body was here more than a second ago.
        assert 'fusionrnn_evicted_total{reason="deadline"} 1.0' in state.metrics.text().decode()
        may.set()
        assert waiting.result().status_code == 200
