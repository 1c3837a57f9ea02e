"""Errors as answers (RFC 9457 problem+json), and what OpenAPI says of them."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.errors import ServiceError, from_media, problem_body
from models.media.errors import MediaError

PROBLEM = "application/problem+json"


class Problem(JSONResponse):
    """A problem object; what a client sent and no encoding can hold, half of a surrogate pair, is a question mark."""

    media_type = PROBLEM

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def answer(error: ServiceError) -> Problem:
    """All of what is said of an error."""
    return Problem(error.body(), error.status, error.headers)


def no_such_stream(path: str) -> Problem:
    """What is said to a WebSocket at an address where there is none."""
    return Problem(_http_body(404, "Not Found", "WebSocket", path), 404)


def _http_body(status: int, said: str, method: str, path: str) -> dict[str, Any]:
    return problem_body(status, "http", said, f"{method} {path}: {said}. /docs lists what there is.")


BODY = {
    400: "Undecodable body or medium",
    408: "The body came too slowly",
    413: "Too many bytes",
    415: "Not a medium that is read",
    422: "Wrong parts or options, or a medium out of bounds",
    503: "Loading, draining, full or too late; Retry-After says when to come back",
    504: "Deadline passed",
}
"""What may be said to whoever posts media."""


def problems(said: Mapping[int, str], *kinds: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """What an operation's description says of its errors: what each status means there, with an example.

    Args:
        kinds: the classes of statuses that have another here than the first one of ``app.errors``.
    """
    known = {kind.status: kind for kind in (*reversed(ServiceError.__subclasses__()), *kinds)}
    found: dict[int | str, dict[str, Any]] = {}
    for status, text in said.items():
        example = problem_body(status, known[status].kind, known[status].title, f"{text}.")
        content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
        found[status] = {"description": text, "content": {PROBLEM: content}}
    return found


def _allowed(request: Request) -> list[str]:
    """The methods of an address. Its routes have one each, and Starlette names those of the first."""

    def answers(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)

    methods = [method for method in ("GET", "POST", "PUT", "DELETE") if answers(method)]
    return ["GET", "HEAD", *methods[1:]] if "GET" in methods else methods


def install(app: FastAPI) -> None:
    """Answer every error that the application raises as a problem."""

    async def service_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ServiceError)
        return answer(error)

    async def media_error(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MediaError)
        return answer(from_media(error))

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        body = _http_body(error.status_code, error.detail, request.method, request.url.path)
        headers = {"Allow": ", ".join(_allowed(request))} if error.status_code == 405 else error.headers
        return JSONResponse(body, error.status_code, headers, media_type=PROBLEM)

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(MediaError, media_error)
    app.add_exception_handler(HTTPException, http_error)
