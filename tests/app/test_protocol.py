"""Heads that do not come, do not end or are too large, sent to a real server."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.protocol import HEAD_BYTES
from tests.app.conftest import running_server

SECONDS = 1.0


@pytest.fixture(scope="module")
def address(zoo: Path) -> Iterator[str]:
    """Where a server listens that waits a second for a head."""
    with running_server(zoo, upload_pause_seconds=SECONDS) as (address, _):
        yield address


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    answer = b""
    while piece := connection.recv(2**16):
        answer += piece
    return answer


def problem(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert f"content-length: {len(body)}\r\n".encode() in head
    return int(head.split()[1]), json.loads(body)


def test_a_connection_that_says_nothing_is_closed(address: str) -> None:
    with connect(address) as silent:
        started = time.monotonic()
        assert rest(silent) == b""
    assert time.monotonic() - started >= 0.9 * SECONDS


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_a_head_that_drips_is_refused(address: str, before: bytes) -> None:
    with connect(address) as slow:
        slow.settimeout(20)
        if before:
            slow.sendall(before)
            assert b"200 OK" in slow.recv(2**16)
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        for _ in range(3):
            time.sleep(SECONDS / 10)
            slow.sendall(b"X: 1\r\n")
        status, said = problem(rest(slow))
    assert status == said["status"] == 408
    assert said["limit"] == "1 seconds"
    assert said["remedy"]


def test_a_head_that_does_not_end_is_refused_before_its_time_is_up(address: str) -> None:
    with connect(address) as endless:
        endless.sendall(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * (HEAD_BYTES + 2**15))
        status, said = problem(rest(endless))
    assert status == said["status"] == 431
    assert str(HEAD_BYTES) in said["detail"]


def test_a_large_head_within_the_bound_is_read(address: str) -> None:
    given = {"X-Long": "x" * (HEAD_BYTES - 1000)}
    assert httpx2.get(f"http://{address}/healthz", headers=given).status_code == 200


def test_a_body_may_follow_later_than_a_head_may_and_another_request_after_it(address: str) -> None:
    body = json.dumps({"text": "x"}).encode()
    head = (
        f"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with connect(address) as patient:
        for _ in range(2):
            patient.sendall(head)
            for piece in (body[:4], body[4:]):
                time.sleep(0.7 * SECONDS)
                patient.sendall(piece)
            assert b" 422 " in patient.recv(2**16)
