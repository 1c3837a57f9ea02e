"""A request on its way here: how long its client waits, how long its body may take, and when its client leaves."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers

from app.api.parts import Whole, read_body
from app.api.rules import Posted, Rules, check_enough
from app.engine.admission import Reservation
from app.engine.deadline import Deadline
from app.engine.service import Service
from app.errors import UploadTimeout, WrongFields

_SHORT_BODY = 16 * 2**10
TIMEOUT = "X-Request-Timeout"
TIMEOUT_HEADER: dict[str, Any] = {
    "name": TIMEOUT,
    "in": "header",
    "description": "Seconds after which the answer is of no use. What cannot make it is refused before it is read",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
"""The same for OpenAPI."""


def wanted_within(headers: Headers) -> float:
    """Seconds within which the client wants its answer; infinity if it does not say.

    Raises:
        WrongFields: it says something else.
    """
    value = headers.get(TIMEOUT)
    if value is None:
        return math.inf
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        said = f"{TIMEOUT} is not a number of seconds above 0."
        raise WrongFields(said, "Send one such as 2.5, or leave it out.", field=TIMEOUT, limit="> 0 seconds")
    return seconds


def refuse_query(request: Request) -> None:
    """Let pass where the address has no options.

    Raises:
        WrongFields: it has some, which nothing reads.
    """
    if request.url.query:
        field = next(iter(request.query_params), request.url.query)
        raise WrongFields("Options in the address are not read.", "Send them as parts of the body.", field=field)


async def receive(request: Request, rules: Rules, service: Service, reservation: Reservation) -> Posted:
    """The parts of a body, which is given up if it takes too long, in all or between two pieces of it.

    Raises:
        ServiceError: it is, or its parts are not what ``rules`` allow.
    """
    settings = service.settings
    chunks = _steady(request.stream(), settings.upload_pause_seconds)
    try:
        async with asyncio.timeout(settings.upload_seconds):
            body = await read_body(request.headers, chunks, rules, reservation)
    except TimeoutError as error:
        limit = f"{settings.upload_seconds:g} seconds"
        said = f"The body did not arrive within {limit}."
        raise UploadTimeout(said, "Send less, or over a faster line.", limit=limit) from error
    reservation.received()
    posted = await _parsed(body, rules, service, reservation) if isinstance(body, Whole) else body
    check_enough(posted, rules)
    return posted


async def _parsed(body: Whole, rules: Rules, service: Service, reservation: Reservation) -> Posted:
    # Decoding megabytes of base64 would hold up every other request; a sentence takes less time than the way there.
    if len(body.data) <= _SHORT_BODY:
        return body.read(body.data, rules)
    deadline = Deadline.of(reservation, service.settings.deadline_seconds)
    # It waits behind the media of others.
    parsing = service.runner.offload(lambda: body.read(body.data, rules))
    remedy = "Send multipart/form-data, or set a longer deadline."
    return await deadline.within(parsing, "The body was not read in time.", remedy)


@asynccontextmanager
async def leaving(request: Request) -> AsyncIterator["asyncio.Future[None]"]:
    """A future that is done when the client has left; for a request whose body was read."""

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(left())
    try:
        yield gone
    finally:
        gone.cancel()


async def _steady(chunks: AsyncIterator[bytes], seconds: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            limit = f"{seconds:g} seconds"
            said = f"Nothing of the body came for {limit}."
            raise UploadTimeout(said, "Send it without pausing, or begin again.", limit=limit) from error
        if chunk is None:
            return
        yield chunk
