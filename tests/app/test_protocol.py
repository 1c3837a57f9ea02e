"""HTTP on the wire, sent to a real server: heads that do not end, upgrades, what is no HTTP, other versions."""

import base64
import json
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.protocol import HEAD_BYTES
from tests.app.conftest import running_server
from tests.support import encoded_photo

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
    assert f"content-length: {len(body)}\r\n".encode() in head.lower() + b"\r\n"
    return int(head.split()[1]), json.loads(body)


def test_http_1_0_gets_events_without_chunks_and_the_end_of_the_connection(address: str) -> None:
    head = (
        "POST /v1/models/captioner/predict HTTP/1.0\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\n"
    )
    body = json.dumps({"image": base64.b64encode(encoded_photo()).decode()}).encode()
    with connect(address) as old:
        old.sendall(f"{head}Connection: keep-alive\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        said, _, events = rest(old).partition(b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in said
    assert b"transfer-encoding" not in said
    assert events.startswith(b"event: ")
    assert b"\nevent: result\n" in events
    assert events.endswith(b"}\n\n")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_http_1_0_gets_an_answer_of_known_length(address: str, method: str) -> None:
    with connect(address) as old:
        old.sendall(f"{method} /healthz HTTP/1.0\r\n\r\n".encode())
        said, _, body = rest(old).partition(b"\r\n\r\n")
    assert b"content-length: 15\r\n" in said
    assert len(body) == (15 if method == "GET" else 0)


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


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /healthz HTTP/1.1\r\nX: %s\r\n\r\n" % (b"x" * (HEAD_BYTES + 5000)),
        b"GET /healthz?%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * (HEAD_BYTES + 5000)),
        b"GET /healthz HTTP/1.1\r\n%s\r\n" % (b"X: 12345\r\n" * (HEAD_BYTES // 9)),
    ],
    ids=["one header", "address", "many headers"],
)
def test_a_head_that_ends_is_refused_if_it_is_too_large(address: str, request_: bytes) -> None:
    with connect(address) as large:
        large.sendall(request_)
        status, said = problem(rest(large))
    assert status == said["status"] == 431
    assert "first line" in said["detail"]


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


CHUNKED = (
    b"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
)


@pytest.mark.parametrize("trailers", [b"X: " + b"x" * (HEAD_BYTES + 2**15), b"A: b\r\n" * 2**14], ids=["one", "many"])
def test_trailers_that_do_not_end_are_refused(address: str, trailers: bytes) -> None:
    with connect(address) as endless:
        endless.sendall(CHUNKED)
        time.sleep(SECONDS / 10)
        endless.sendall(trailers)
        status, said = problem(rest(endless))
    assert status == said["status"] == 431
    assert "trailers" in said["detail"]


def test_trailers_that_end_are_refused_if_they_are_too_large(address: str) -> None:
    with connect(address) as large:
        large.sendall(CHUNKED.removesuffix(b"0\r\n"))
        time.sleep(SECONDS / 10)
        large.sendall(b"0\r\nX: %s\r\n\r\n" % (b"x" * (HEAD_BYTES + 5000)))
        status, said = problem(rest(large))
    assert status == said["status"] == 431
    assert "trailers" in said["detail"]


def test_a_few_trailers_do_no_harm(address: str) -> None:
    with connect(address) as chunked:
        chunked.sendall(CHUNKED + b"A: b\r\n\r\n")
        assert b" 422 " in chunked.recv(2**16)


def test_trailers_that_drip_do_not_hold_the_connection(address: str) -> None:
    with connect(address) as slow:
        slow.sendall(CHUNKED)
        started = time.monotonic()
        with suppress(ConnectionError):
            while time.monotonic() - started < 10 * SECONDS:
                slow.sendall(b"A: b\r\n")
                time.sleep(SECONDS / 5)
    assert time.monotonic() - started < 10 * SECONDS


@pytest.mark.parametrize(
    ("request_", "after"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"),
        (b"POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n", b"x"),
    ],
    ids=["a blank line", "a body that nobody reads"],
)
def test_what_comes_after_an_answer_does_not_hold_the_connection(address: str, request_: bytes, after: bytes) -> None:
    with connect(address) as idle:
        idle.sendall(request_)
        answer = idle.recv(2**16)
        # Its body may come in a packet of its own.
        while not answer.endswith(b"}"):
            answer += idle.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 ")
        idle.sendall(after)
        assert rest(idle) == b""


def test_a_websocket_on_a_connection_that_was_used_before_is_left_alone(address: str) -> None:
    with connect(address) as used:
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in used.recv(2**16)
        used.sendall(
            b"GET /v1/models/captioner/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        assert b" 101 " in used.recv(2**16)
        used.settimeout(2 * SECONDS)
        with pytest.raises(TimeoutError):
            rest(used)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Version"),
        ("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: abc", "Sec-WebSocket-Key"),
    ],
)
def test_a_handshake_that_is_wrong_is_told_as_a_problem(address: str, head: str, said: str) -> None:
    with connect(address) as asking:
        asking.sendall(
            f"GET /v1/models/captioner/stream HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"{head}\r\n\r\n".encode()
        )
        answer, _, body = rest(asking).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Type: application/problem+json" in answer
    assert b"Sec-WebSocket-Version: 13" in answer
    problem = json.loads(body)
    assert (problem["status"], said in problem["detail"], bool(problem["remedy"])) == (400, True, True)


def predict(head: str, body: bytes) -> bytes:
    """A request for an option that there is not, which only a server that has read the body can name."""
    return f"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: a\r\n{head}\r\n".encode() + body


H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
JSON = "Content-Type: application/json\r\n"
WHOLE = predict(f"{H2C}{JSON}Content-Length: 11\r\n", b'{"shoe": 1}')
CHUNKS = predict(f"{H2C}{JSON}Transfer-Encoding: chunked\r\n", b'4\r\n{"sh\r\n7\r\noe": 1}\r\n0\r\n\r\n')
PLAIN = predict(f"{JSON}Content-Length: 11\r\n", b'{"shoe": 1}')


def read_body(connection: socket.socket) -> None:
    """One answer, which shows that the body arrived."""
    answer = b""
    while b"}" not in answer:
        piece = connection.recv(2**16)
        assert piece, answer
        answer += piece
    assert answer.startswith(b"HTTP/1.1 422 "), answer
    assert b'"field":"shoe"' in answer


@pytest.mark.parametrize("request_", [WHOLE, CHUNKS], ids=["whole", "chunked"])
@pytest.mark.parametrize("size", [1, 100, 2**16])
def test_a_client_that_offers_http_2_is_answered_as_without(address: str, request_: bytes, size: int) -> None:
    with connect(address) as offering:
        for _ in range(2):  # and so on a connection that is used again
            for at in range(0, len(request_), size):
                offering.sendall(request_[at : at + size])
            read_body(offering)
        offering.sendall(PLAIN)
        read_body(offering)


def test_requests_that_offer_http_2_may_follow_each_other_at_once(address: str) -> None:
    with connect(address) as eager:
        eager.sendall(WHOLE + CHUNKS + PLAIN + predict(f"{H2C}Connection: close\r\n", b""))
        answers = rest(eager)
    assert answers.count(b'"field":"shoe"') == 3
    assert answers.count(b"HTTP/1.1 ") == 4


WS = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
)


@pytest.mark.parametrize("request_", [WHOLE, CHUNKS], ids=["whole", "chunked"])
def test_a_post_is_no_handshake_of_a_websocket(address: str, request_: bytes) -> None:
    with connect(address) as posting:
        posting.sendall(request_.replace(H2C.encode(), WS.encode()))
        read_body(posting)


@pytest.mark.parametrize("body", ["Content-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"])
def test_a_get_with_a_body_is_no_handshake_of_a_websocket(address: str, body: str) -> None:
    with connect(address) as getting:
        getting.sendall(f"GET /healthz HTTP/1.1\r\nHost: a\r\n{WS}{body}".encode())
        assert getting.recv(2**16).startswith(b"HTTP/1.1 200 ")


def test_a_handshake_may_say_that_it_has_no_body(address: str) -> None:
    with connect(address) as opening:
        opening.sendall(
            f"GET /v1/models/captioner/stream HTTP/1.1\r\nHost: a\r\n{WS}Content-Length: 0\r\n\r\n".encode()
        )
        assert opening.recv(2**16).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", "method"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT"),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/"),
        ("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(), "url"),
        (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "address"),
        (predict("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b""), "Transfer-Encoding"),
        (predict("Transfer-Encoding: chunked\r\n", b"zz\r\n"), "chunk"),
        (b"\x16\x03\x01\x02\x00\x01", "method"),
    ],
    ids=["method", "CONNECT", "space", "umlaut", "no path", "two lengths", "chunk", "TLS"],
)
@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["new", "used"])
def test_what_is_no_request_is_answered_by_a_problem(address: str, before: bytes, request_: bytes, detail: str) -> None:
    with connect(address) as wrong:
        if before:
            wrong.sendall(before)
            assert b"200 OK" in wrong.recv(2**16)
        wrong.sendall(request_)
        status, said = problem(rest(wrong))
    assert status == said["status"] == 400
    assert said["type"] == "urn:fusionrnn:problem:bad-request"
    assert detail in said["detail"]
    assert said["remedy"]


def test_a_chunk_that_is_wrong_after_the_answer_gets_no_second_one(address: str) -> None:
    with connect(address) as wrong:
        wrong.sendall(b"POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert wrong.recv(2**16).startswith(b"HTTP/1.1 404 ")
        wrong.sendall(b"zz\r\n")
        assert rest(wrong) == b""


@pytest.mark.parametrize("path", ["/v1/models/captioner/streams", "/v1/stream", "/healthz"])
def test_a_websocket_at_another_address_is_not_found(address: str, path: str) -> None:
    with connect(address) as lost:
        lost.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n{WS}\r\n".encode())
        status, said = problem(rest(lost))
    assert (status, said["type"]) == (404, "urn:fusionrnn:problem:http")
    assert path in said["detail"]


@pytest.mark.parametrize("model", ["captioner", "none"])
def test_a_request_for_a_session_that_asks_for_no_websocket_is_told_to(address: str, model: str) -> None:
    answer = httpx2.get(f"http://{address}/v1/models/{model}/stream")
    assert (answer.status_code, answer.headers["upgrade"], answer.headers["connection"]) == (
        426,
        "websocket",
        "Upgrade",
    )
    assert answer.json()["type"] == "urn:fusionrnn:problem:upgrade-required"
    assert "wss://" in answer.json()["remedy"]


def test_a_session_that_is_refused_leaves_no_error_in_the_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with connect(address) as page:
        head = f"GET /v1/models/captioner/stream HTTP/1.1\r\nHost: a\r\nOrigin: https://other.example\r\n{WS}\r\n"
        page.sendall(head.encode())
        status, _ = problem(rest(page))
    assert status == 403
    time.sleep(SECONDS / 10)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
