"""How many real-time sessions a server carries."""

import asyncio
from dataclasses import dataclass

from benchmarks.stream.client import Load, talk
from benchmarks.stream.server import MODEL, serving

CHUNK = 0.08
TARGET = 0.100


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most sessions whose p99 lag kept to the target, with their lags, and the load that did not."""

    streams: int
    p50: float
    p99: float
    cpu: float
    """Of the server, in cores."""
    over: int


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
