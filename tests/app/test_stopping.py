"""What a server gives up because it stops is told so, and leaves no traceback in the log."""

import asyncio
import json
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.stream import Streams
from app.engine.service import Service
from app.engine.sessions import Sessions
from app.settings import Settings
from app.telemetry import Unforeseen
from tests.app.process import started


@pytest.mark.timeout(120)
def test_a_second_interrupt_answers_what_still_runs_and_ends_without_a_traceback(zoo: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with started(errors, MODEL_DIR=str(zoo)) as (process, said):
        address = said.split("http://")[1].split("/")[0]
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as upload:
            head = (
                f"POST /v1/models/captioner/predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            )
            upload.sendall(head.encode() + b"Content-Length: 1000\r\n\r\n{")
            _until(lambda: "waiting_requests 1.0" in httpx2.get(f"http://{address}/metrics").text)
            process.send_signal(signal.SIGINT)
            _until(lambda: _refuses(host, int(port)))
            process.send_signal(signal.SIGINT)
            answer = b"".join(iter(lambda: upload.recv(4096), b""))
        # Long before the 30 seconds that it would have had.
        assert process.wait(20) == 130
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: " in answer.lower()
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "urn:fusionrnn:problem:unavailable"
    assert "Traceback" not in errors.read_text()


@pytest.fixture
def stopping(tmp_path: Path) -> Service:
    """A service that stops."""
    service = Service(Settings(model_dir=[tmp_path]))
    service.draining = True
    return service


def test_events_that_are_broken_off_end_with_an_error(stopping: Service) -> None:
    async def tells(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"event: progress\n\n", "more_body": True})
        await asyncio.Event().wait()

    *_, last = asyncio.run(_given_up(Unforeseen(tells, stopping), "http"))
    kind, data, *_ = last["body"].decode().split("\n")
    assert not last.get("more_body")
    assert kind == "event: error"
    assert json.loads(data.removeprefix("data: "))["status"] == 503


def test_only_the_servers_end_is_an_answer(stopping: Service) -> None:
    async def hangs(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    start, _ = asyncio.run(_given_up(Unforeseen(hangs, stopping), "http"))
    assert start["status"] == 503
    stopping.draining = False
    # Ray cancels what its client left.
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_given_up(Unforeseen(hangs, stopping), "http"))


def test_a_socket_that_is_given_up_is_no_error(stopping: Service) -> None:
    async def elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    async def run() -> list[Message]:
        return await _given_up(Streams(elsewhere, Sessions(stopping)), "websocket")

    assert [message["type"] for message in asyncio.run(run())] == ["websocket.accept"]
    stopping.draining = False
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())


async def _given_up(app: ASGIApp, kind: str) -> list[Message]:
    """What an application sends to a client of which nothing comes, until, once it does no more, it is cancelled."""
    scope: dict[str, Any] = {
        "type": kind, "path": "/v1/models/m/stream", "headers": [], "state": {"request_id": "1"},
    }  # fmt: skip
    sent: list[Message] = []
    came = [{"type": "websocket.connect"}]

    async def receive() -> Message:
        return came.pop() if came else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Message) -> None:
        sent.append(message)

    running = asyncio.ensure_future(app(scope, receive, send))
    for _ in range(100):
        await asyncio.sleep(0)
    running.cancel()
    await running
    return sent


def _refuses(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port)).close()
    except ConnectionRefusedError:
        return True
    return False


def _until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)
