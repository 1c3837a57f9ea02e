"""What a session takes up of a server's memory, and what many of them leave behind."""

import asyncio
import random
from dataclasses import dataclass

import psutil

from benchmarks.stream.client import Client, connect, dial, framed
from benchmarks.stream.server import MODEL, serving

START = {"modalities": {"audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}}}
CHUNK = 2560
"""Bytes of 80 ms."""
FIRST = 100
"""Sessions that are there before others are counted: enough for the largest step, whose buffers belong to nobody."""
IN_FLIGHT = 50
IDLE = 1.0
"""Seconds after which the server forgets a session that was dropped."""
_END = b'{"type":"session.end"}'
_EXPORT = b'{"type":"session.export"}'


@dataclass(frozen=True, slots=True)
class Left:
    """Resident megabytes of a server once no session is left, after some of them and after all; seconds it took."""

    early: float
    late: float
    seconds: float


def memory_each(sessions: int, sound: bytes) -> float:
    """Resident bytes for each of many open sessions, beside the first ones, when all have heard a quarter of a second.

    ``sound``: pcm_s16le at 16 kHz.
    """

    async def opened(address: str, count: int) -> list[Client]:
        clients = [await connect(address, MODEL, START) for _ in range(count)]
        for at in range(0, 3 * CHUNK, CHUNK):
            for number, client in enumerate(clients, 1):
                client.send_chunk(sound[at : at + CHUNK])
                if number % 50 == 0:
                    await asyncio.sleep(0.1)
        # An export comes after all that was heard; one at a time, so that they add nothing.
        for client in clients:
            client.send(1, _EXPORT)
            await asyncio.wait_for(client.until("session.exported"), 60)
        return clients

    async def measure(address: str, process: psutil.Process) -> float:
        clients = await opened(address, FIRST)
        before = process.memory_info().rss
        clients += await opened(address, sessions)
        each: float = (process.memory_info().rss - before) / sessions
        for client in clients:
            client.transport.abort()
        return each

    with serving() as (address, process):
        return asyncio.run(measure(address, process))


def churn(few: int, many: int, sound: bytes) -> Left:
    """Opens ``many`` sessions, a number of them at a time, and drops each at some moment; looks also after ``few``.

    Until about as many are there at once as ever will be, a server's memory still grows: those that were dropped live
    on for the idle limit.
    """
    chance = random.Random(0)  # noqa: S311 - no secret
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(address: str) -> None:
        async with gate:
            client = await dial(address, MODEL, START)
            await _live(client, sound, chance)
            client.transport.abort()

    async def measure(address: str, process: psutil.Process) -> Left:
        started = asyncio.get_running_loop().time()
        found = []
        for count in (few, many - few):
            await asyncio.gather(*(one(address) for _ in range(count)))
            # The server looks for forgotten sessions once a second.
            await asyncio.sleep(IDLE + 2)
            found.append(process.memory_info().rss / 2**20)
        return Left(found[0], found[1], asyncio.get_running_loop().time() - started)

    with serving(idle=IDLE) as (address, process):
        return asyncio.run(measure(address, process))


async def _live(client: Client, sound: bytes, chance: random.Random) -> None:
    """A part of a session's life, up to some moment: before it starts, within a chunk, after an export or its end."""
    if chance.random() < 0.1:
        await asyncio.sleep(chance.random() * 0.01)
        return
    await asyncio.wait_for(client.started, 60)
    for _ in range(chance.randrange(4)):
        client.send_chunk(sound[: 2 * chance.randrange(1, 2000)])
        await asyncio.sleep(chance.random() * 0.02)
    match chance.randrange(5):
        case 0:
            chunk = framed(2, sound[:CHUNK])
            client.transport.write(chunk[: chance.randrange(1, len(chunk))])
        case 1:
            client.send(1, _EXPORT)
            await asyncio.wait_for(client.until("session.exported"), 60)
        case 2:
            client.send(1, _END)
            await asyncio.wait_for(client.until("session.ended"), 60)
        case 3:
            client.send(1, _END)
