"""How many real-time sessions a server carries, what one of them takes up, and what many leave behind."""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.stream.client import Load, connect, talk

CHUNK = 0.08
TARGET = 0.100
MODEL = "voice-commands"


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most sessions whose p99 lag kept to the target, with their lags, and the load that did not."""

    streams: int
    p50: float
    p99: float
    cpu: float
    """Of the server, in cores."""
    over: int


@contextmanager
def serving(mode: str, idle: float = 60) -> Iterator[tuple[str, psutil.Process]]:
    """A server that forgets dropped sessions after ``idle`` seconds: host:port, and its process."""
    command = [sys.executable, "-m", "benchmarks.stream.server", "--mode", mode, "--idle", str(idle)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:  # noqa: S603 - our own
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip().removeprefix("http://")
            yield address, psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(30)


def most_streams(mode: str, sound: bytes, *, seconds: float, first: int, closest: int) -> Capacity:
    """Doubles the load until the lag is over the target, then halves the distance down to ``closest``."""
    good, bad, best = 0, 0, None
    streams = first
    with serving(mode) as (address, process):
        asyncio.run(talk(address, MODEL, 2, 2, sound, CHUNK))
        while True:
            before = sum(process.cpu_times()[:2])
            load: Load = asyncio.run(talk(address, MODEL, streams, seconds, sound, CHUNK))
            cpu = (sum(process.cpu_times()[:2]) - before) / (seconds + 1)
            ok = load.failed == 0 and load.quantile(0.99) <= TARGET
            print(f"  {mode}: {streams} sessions, p99 {load.quantile(0.99) * 1e3:.0f} ms, {cpu:.2f} cores", flush=True)
            if ok:
                good = streams
                best = Capacity(streams, load.quantile(0.5), load.quantile(0.99), cpu, bad)
            else:
                bad = streams
            if bad and bad - good <= max(closest, good // 16):
                break
            if bad == 0:
                streams *= 2
            elif good == 0:
                if bad <= closest:
                    break
                streams = bad // 2
            else:
                streams = (good + bad) // 2
    if best is None:
        return Capacity(0, float("nan"), float("nan"), 0, bad)
    return Capacity(best.streams, best.p50, best.p99, best.cpu, bad)


def memory_each(sessions: int, sound: bytes) -> float:
    """Bytes of the server's memory for each of many open sessions that have all heard something."""

    async def measure(address: str, process: psutil.Process) -> float:
        start = {"modalities": {"audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}}}
        warm = [await connect(address, MODEL, start) for _ in range(20)]
        for client in warm:
            client.send_chunk(sound[:2560])
        await asyncio.sleep(1)
        before = process.memory_info().rss
        clients = [await connect(address, MODEL, start) for _ in range(sessions)]
        for _ in range(3):
            for client in clients:
                client.send_chunk(sound[:2560])
            await asyncio.sleep(2)
        each = (process.memory_info().rss - before) / sessions
        for client in clients + warm:
            client.transport.abort()
        return each

    with serving("shared") as (address, process):
        return asyncio.run(measure(address, process))


def churn(sessions: int, sound: bytes) -> tuple[float, float]:
    """Megabytes of the server after a tenth of so many sessions, opened and dropped at random, and after all."""

    async def some(address: str, count: int, chance: random.Random) -> None:
        start = {"modalities": {"audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}}}
        gate = asyncio.Semaphore(50)

        async def one() -> None:
            async with gate:
                client = await connect(address, MODEL, start)
                for _ in range(chance.randrange(4)):
                    client.send_chunk(sound[: 2 * chance.randrange(1, 2000)])
                    await asyncio.sleep(chance.random() * 0.02)
                if chance.random() < 0.3:
                    client.send(1, b'{"type":"session.end"}')
                    await asyncio.sleep(0.05)
                client.transport.abort()

        await asyncio.gather(*(one() for _ in range(count)))

    with serving("shared", idle=1) as (address, process):
        chance = random.Random(0)  # noqa: S311 - no secret
        asyncio.run(some(address, sessions // 10, chance))
        before = process.memory_info().rss
        asyncio.run(some(address, sessions - sessions // 10, chance))
        return before / 2**20, process.memory_info().rss / 2**20
