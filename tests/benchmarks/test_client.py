"""The client keeps its schedule, counts from it, and tells answers, refusals and losses apart."""

import asyncio
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from aiohttp import web

from benchmarks.serving.client import OK, Load, Outcome, Post, arrivals, form, in_turn, load, one_by_one


@contextmanager
def server(seconds: float, *statuses: int) -> Iterator[str]:
    """Answers one request at a time, each after ``seconds``, with the statuses in turn."""
    loop = asyncio.new_event_loop()
    started: asyncio.Future[str] = loop.create_future()
    turn, stop = asyncio.Lock(), asyncio.Event()
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        async with turn:
            await asyncio.sleep(seconds)
            asked += 1
            return web.Response(status=statuses[(asked - 1) % len(statuses)])

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        started.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    ready = asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(started), 5), loop)
    try:
        yield ready.result()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


POST = Post("/", b"x", {})


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    times = np.array(arrivals(50, 200, seed=1))
    assert len(times) == pytest.approx(10_000, rel=0.05)
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert arrivals(50, 1, seed=1) == arrivals(50, 1, seed=1) != arrivals(50, 1, seed=2)


def test_a_slow_server_is_charged_for_those_it_made_wait() -> None:
    with server(0.05, OK) as url:
        run = load(url, [POST], rate=80, seconds=1, seed=0, patience=10)
    # It does 20 a second: the last wait for about three seconds though each takes 50 ms.
    assert run.answered == len(run.outcomes)
    assert run.quantile(0.99) > 1
    assert run.late < 0.2


def test_answers_refusals_and_losses_are_told_apart() -> None:
    with server(0.0, 200, 503, 429, 500, 504) as url:
        outcomes = in_turn(url, [POST] * 50, clients=4, patience=10)
    run = Load(1, 1, tuple(outcomes))
    assert (run.answered, run.refused, run.expired, run.failed) == (10, 20, 10, 10)


def test_what_is_not_answered_in_time_is_lost() -> None:
    with server(0.5, OK) as url:
        (outcome,) = one_by_one(url, [POST], patience=0.1)
    assert outcome.status == 0


def test_quantiles_count_what_was_never_answered_as_endless() -> None:
    outcomes = tuple(Outcome(OK, seconds / 100, 0) for seconds in range(1, 99)) + (Outcome(503, 0.001, 0),) * 2
    run = Load(1, 1, outcomes)
    assert run.quantile(0.5) == 0.5
    assert run.quantile(0.98) == 0.98
    assert run.quantile(0.99) == math.inf
    assert run.within(0.5) == 50


def test_a_form_is_one_that_servers_read() -> None:
    from starlette.datastructures import UploadFile
    from starlette.requests import Request
    from starlette.types import Message

    post = form("/predict", "file", b"\r\n--bytes--\x00")

    async def read() -> bytes:
        async def receive() -> Message:
            return {"type": "http.request", "body": post.body}

        headers = [(name.lower().encode(), value.encode()) for name, value in post.headers.items()]
        request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
        async with request.form() as parts:
            file = parts["file"]
            assert isinstance(file, UploadFile)
            return await file.read()

    assert asyncio.run(read()) == b"\r\n--bytes--\x00"


def test_a_run_in_which_a_tenth_has_missed_the_objective_is_broken_off() -> None:
    with server(0.05, OK) as url:
        run = load(url, [POST], rate=80, seconds=5, seed=0, patience=10, objective=0.2)
    assert run.quantile(0.99) == math.inf
    assert run.within(0.2) < 0.99 * len(run.outcomes)
    assert len(run.outcomes) < 300
