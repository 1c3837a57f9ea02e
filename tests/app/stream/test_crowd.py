"""A thousand sessions at once over the limit are refused at once, and the one under way does not notice."""

import asyncio
import json
import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.app.stream.conftest import S16, finals, pcm, server
from tests.models.streaming.sounds import RATE, babble

CROWD = 1000
LIMIT = 8
SIZE = RATE * 2 // 25
SOUND = babble(8, 2)
CHUNKS = [pcm(SOUND[at : at + SIZE]) for at in range(0, len(SOUND), SIZE)]
SECONDS = 100
START = json.dumps({"type": "session.start", "modalities": S16, "options": {"threshold": 0.2}})


@pytest.mark.timeout(180)
def test_a_thousand_at_once_over_the_limit_are_refused_and_the_one_under_way_goes_on(tmp_path: Path) -> None:
    with server(tmp_path / "log", STREAM_SESSIONS=str(LIMIT)) as (_, url):
        asyncio.run(crowded(url))


async def crowded(url: str) -> None:
    quiet = await asyncio.wait_for(talk(url, asyncio.Event()), SECONDS)
    assert len(finals(quiet)) > 2
    async with AsyncExitStack() as held:
        amid = asyncio.Event()
        talking = asyncio.create_task(talk(url, amid))
        await asyncio.wait_for(amid.wait(), SECONDS)
        answers = await asyncio.wait_for(asyncio.gather(*(begin(url, held) for _ in range(CROWD))), SECONDS)
        heard = await asyncio.wait_for(talking, SECONDS)
    refused = [code for event, code in answers if event["type"] == "error"]
    assert refused == [1013] * (CROWD - LIMIT + 1)
    assert all(event["status"] == 503 for event, code in answers if code is not None)
    assert finals(heard) == finals(quiet)


async def talk(url: str, amid: asyncio.Event) -> list[dict[str, Any]]:
    """What is heard of the sound; from ``amid`` on, which is the second half, it is sent in real time."""
    async with opened(url) as socket:
        await socket.send(START)
        for number, chunk in enumerate(CHUNKS):
            if number >= len(CHUNKS) // 2:
                amid.set()
                await asyncio.sleep(0.04)
            await socket.send(struct.pack("<IB3xd", number, 0, 0.0) + chunk)
        await socket.send(json.dumps({"type": "session.end"}))
        return [json.loads(event) async for event in socket]


async def begin(url: str, held: AsyncExitStack) -> tuple[dict[str, Any], int | None]:
    """The answer to one more start, and the code with which the socket was closed, if it was."""
    socket = await held.enter_async_context(opened(url))
    await socket.send(START)
    event: dict[str, Any] = json.loads(await socket.recv())
    if event["type"] == "session.started":
        return event, None
    with pytest.raises(ConnectionClosed) as closed:
        await socket.recv()
    return event, closed.value.rcvd.code if closed.value.rcvd else -1


def opened(url: str) -> connect:
    return connect(url, compression=None, open_timeout=SECONDS, max_queue=None)
