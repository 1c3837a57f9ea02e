"""A request whose server fell silent is sent once more, and nothing else is."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.retry import Retry, middlewares

BODY = (b"a ", b"dog ", b"runs")


class Replicas:
    """Behind the proxy: each of ``fates`` is what one call comes to."""

    def __init__(self, *fates: str) -> None:
        self.fates = list(fates)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fate = self.fates.pop(0)
        if fate == "dies early":
            await receive()
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        if fate == "raises":
            raise RuntimeError("the actor died")
        if fate != "dies":
            await send({"type": "http.response.start", "status": 500 if fate == "fails" else 200, "headers": []})
        if fate == "answers":
            await send({"type": "http.response.body", "body": b"ok"})


def ask(
    app: ASGIApp, body: Sequence[bytes] = BODY, *, method: str = "POST", path: str = "/v1/models/captioner/predict"
) -> list[Message]:
    """What a client sees."""
    incoming = [
        {"type": "http.request", "body": part, "more_body": index + 1 < len(body)} for index, part in enumerate(body)
    ]
    seen: list[Message] = []

    async def receive() -> Message:
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        seen.append(message)

    async def request() -> None:
        await app({"type": "http", "method": method, "path": path}, receive, send)

    asyncio.run(request())
    return seen


@pytest.mark.parametrize("fate", ["dies", "dies early", "raises"])
def test_a_replica_that_dies_is_not_noticed(fate: str) -> None:
    replicas = Replicas(fate, "answers")
    assert ask(Retry(replicas))[-1]["body"] == b"ok"
    assert replicas.bodies[-1] == b"".join(BODY)


def test_a_request_is_sent_twice_at_most() -> None:
    replicas = Replicas("dies", "dies", "answers")
    assert ask(Retry(replicas)) == []
    assert replicas.fates == ["answers"]


@pytest.mark.parametrize("fate", ["answers", "fails", "begins"])
def test_what_has_been_answered_is_not_asked_again(fate: str) -> None:
    replicas = Replicas(fate, "answers")
    ask(Retry(replicas))
    assert replicas.fates == ["answers"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/collections/photos/items/1"),
        ("POST", "/v1/collections/photos/search"),
        ("POST", "/v1/models/captioner/unload"),
        ("DELETE", "/v1/models/captioner/predict"),
    ],
)
def test_what_may_change_something_is_not_repeated(method: str, path: str) -> None:
    replicas = Replicas("dies", "answers")
    assert ask(Retry(replicas), method=method, path=path) == []


def test_a_body_too_large_to_keep_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.retry._MOST_BYTES", 8)
    assert ask(Retry(Replicas("dies", "answers"))) == []
    assert ask(Retry(Replicas("dies", "answers")), [b"short"])[-1]["body"] == b"ok"


def test_nobody_is_answered_who_has_left() -> None:
    class Left(Replicas):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            self.fates.pop(0)
            while (await receive())["type"] != "http.disconnect":
                pass

    replicas = Left("dies", "answers")
    ask(Retry(replicas))
    assert replicas.fates == ["answers"]


def test_the_function_that_serve_calls_gives_the_middleware() -> None:
    (middleware,) = middlewares()
    assert middleware.cls.__name__ == Retry.__name__  # type: ignore[attr-defined]
