"""Measure streaming sessions and write the page: ``python -m benchmarks.stream --data FOLDER --out PAGE``."""

import argparse
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from benchmarks.stream.capacity import CHUNK, TARGET, Capacity, churn, memory_each, most_streams
from benchmarks.stream.detection import Scene, detect, scene
from benchmarks.stream.state import RATE, steady

MODES = {
    "shared": "shared steps",
    "alone": "a call of the network for each session",
    "window": "the last second run again at each chunk",
}


def main() -> None:
    """Print the page, or write it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, help="folder that holds speech_commands and esc10")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--quick", action="store_true", help="try the way to the page; the figures mean little")
    chosen = arguments.parse_args()
    heard = None if chosen.data is None else scene(chosen.data, 60 if chosen.quick else 582)
    page = "\n".join(_page(heard, quick=chosen.quick)) + "\n"
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page, encoding="utf-8")


def _page(heard: Scene | None, *, quick: bool) -> Iterator[str]:
    samples = _made_up() if heard is None else heard.samples[: 60 * RATE]
    sound = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    command = f"python -m benchmarks.stream{' --quick' * quick}{' --data FOLDER' * (heard is not None)}"
    yield "# Streaming\n"
    yield f"    {command}\n"
    cores = psutil.cpu_count()
    yield f"`voice-commands` on {cores} cores ({_processor()}), which server and clients share. Client and server are"
    yield f"processes of one machine; each session sends {CHUNK * 1e3:g} ms of sound at a time, in real time, and asks"
    yield "for an answer to each chunk. Lag is the time from a chunk's sending to its answer, at the client.\n"
    yield "## Sessions at once\n"
    yield f"The most whose p99 lag is at most {TARGET * 1e3:g} ms.\n"
    yield "| | sessions | p50 lag, ms | p99 lag, ms | server, cores |"
    yield "|---|---|---|---|---|"
    found: dict[str, Capacity] = {}
    for mode, name in MODES.items():
        found[mode] = most_streams(mode, sound, seconds=4 if quick else 12, first=25, closest=5)
        each = found[mode]
        yield f"| {name} | {each.streams} | {each.p50 * 1e3:.0f} | {each.p99 * 1e3:.0f} | {each.cpu:.2f} |"
    shared = found["shared"].streams
    ratios = [shared / max(found[mode].streams, 1) for mode in ("alone", "window")]
    yield f"\nShared steps carry {ratios[0]:.1f} times the sessions of single calls, and {ratios[1]:.1f} times those"
    yield "of a sliding window.\n"
    yield "## What a session takes up\n"
    result = steady(samples, 0.05 if quick else 1.0)
    yield "| | |"
    yield "|---|---|"
    yield f"| exported state after 10 s, bytes | {result.early_bytes} |"
    yield f"| exported state after {'3 minutes' if quick else 'an hour'}, bytes | {result.late_bytes} |"
    yield f"| step of 80 ms after 10 s, ms | {result.early:.2f} |"
    yield f"| the same after {'3 minutes' if quick else 'an hour'}, ms | {result.late:.2f} |"
    yield f"| ratio | {result.ratio:.3f} |"
    sessions = 200 if quick else 1000
    yield f"| the server's memory for each of {sessions} sessions, KB | {memory_each(sessions, sound) / 1024:.1f} |"
    many = 1000 if quick else 10_000
    before, after = churn(many, sound)
    yield f"| its memory after {many // 10} sessions opened and dropped, MB | {before:.0f} |"
    yield f"| after {many} | {after:.0f} |"
    if heard is not None:
        yield from _detection(heard)


def _detection(heard: Scene) -> Iterator[str]:
    yield "\n## What is heard\n"
    minutes = len(heard.samples) / RATE / 60
    yield f"{minutes:.0f} minutes of continuous sound: {len(heard.spoken)} validation words of Speech Commands, in"
    yield "random order and with near silence between them, its recordings of silence, and sounds of ESC-10's fold 4."
    yield "Cut out: the same recordings posted one by one, with the same threshold. Wrong: of all words, commands heard"
    yield "as another or twice, and other words heard as a command. False alarms are those in the time in which nobody"
    yield "speaks.\n"
    yield "| threshold | commands heard | cut out | wrong | false alarms an hour | delay, ms |"
    yield "|---|---|---|---|---|---|"
    for row in detect(heard, [0.6, 0.7, 0.75, 0.8, 0.9]):
        yield (
            f"| {row.threshold} | {row.hits:.1%} | {row.cut_out:.1%} | {row.wrong_words:.1%} "
            f"| {row.alarms_an_hour:.0f} | {row.delay * 1e3:.0f} |"
        )


def _made_up() -> np.ndarray:
    """A minute of noise in bursts."""
    chance = np.random.default_rng(0)
    time = np.arange(60 * RATE) / RATE
    sound = chance.normal(0, 0.1, len(time)) * np.clip(np.sin(2 * np.pi * time), 0, 1)
    return np.asarray(sound, np.float32)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
