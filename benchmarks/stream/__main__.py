"""Measure streaming sessions and write the page: ``python -m benchmarks.stream --data FOLDER --out PAGE``."""

import argparse
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import psutil

from benchmarks.stream.capacity import CHUNK, TARGET, Capacity, most_streams
from benchmarks.stream.detection import Scene, detect, talk
from benchmarks.stream.detection import scene as made_of
from benchmarks.stream.memory import FIRST, IN_FLIGHT, churn, memory_each
from benchmarks.stream.state import RATE, steady

MODES = {
    "shared": "shared steps",
    "alone": "a call of the network for each session",
    "window": "the last second run again at each chunk",
}


@dataclass(frozen=True)
class Trial:
    """What the measurements are made with: recordings, if there are any, and how long they may take."""

    data: Path | None
    quick: bool

    @cached_property
    def scene(self) -> Scene | None:
        """Recorded words in continuous sound."""
        return None if self.data is None else made_of(self.data, 60 if self.quick else 582)

    @cached_property
    def samples(self) -> np.ndarray:
        """A minute, float32 -1..1 at 16 kHz."""
        return _made_up() if self.scene is None else self.scene.samples[: 60 * RATE]

    @cached_property
    def sound(self) -> bytes:
        """The same as pcm_s16le."""
        sound: bytes = np.round(np.clip(self.samples, -1, 1) * 32767).astype("<i2").tobytes()
        return sound


def main() -> None:
    """Print the page, or write it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, help="folder of speech_commands, esc10, grid_s1 and perhaps talk")
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--quick", action="store_true", help="try the way to the page; the figures mean little")
    arguments.add_argument("--only", choices=PARTS, nargs="+", default=[], help="parts of the page, instead of all")
    chosen = arguments.parse_args()
    page = "\n".join(_page(Trial(chosen.data, chosen.quick), chosen.only)) + "\n"
    if chosen.out is None:
        print(page)
    else:
        chosen.out.write_text(page, encoding="utf-8")


def _page(trial: Trial, only: list[str]) -> Iterator[str]:
    flags = " --quick" * trial.quick + " --data FOLDER" * (trial.data is not None)
    yield "# Streaming\n"
    yield f"    python -m benchmarks.stream{flags}{' --only ' * bool(only)}{' '.join(only)}\n"
    yield f"`voice-commands` on {psutil.cpu_count()} cores ({_processor()}), which server and clients share. Client and"
    yield f"server are processes of one machine; each session sends {CHUNK * 1e3:g} ms of sound at a time."
    for name, part in PARTS.items():
        if not only or name in only:
            yield from part(trial)


def _capacity(trial: Trial) -> Iterator[str]:
    yield "\n## Sessions at once\n"
    yield f"The most whose p99 lag is at most {TARGET * 1e3:g} ms. Each sends in real time, and asks for an answer to"
    yield "each chunk. Lag is the time from a chunk's sending to its answer, at the client.\n"
    yield "| | sessions | p50 lag, ms | p99 lag, ms | server, cores |"
    yield "|---|---|---|---|---|"
    found: dict[str, Capacity] = {}
    for mode, name in MODES.items():
        found[mode] = most_streams(mode, trial.sound, seconds=4 if trial.quick else 12, first=25, closest=5)
        each = found[mode]
        yield f"| {name} | {each.streams} | {each.p50 * 1e3:.0f} | {each.p99 * 1e3:.0f} | {each.cpu:.2f} |"
    shared = found["shared"].streams
    ratios = [shared / max(found[mode].streams, 1) for mode in ("alone", "window")]
    yield f"\nShared steps carry {ratios[0]:.1f} times the sessions of single calls, and {ratios[1]:.1f} times those"
    yield "of a sliding window."


def _hour(trial: Trial) -> Iterator[str]:
    length = "3 minutes" if trial.quick else "an hour"
    result = steady(trial.samples, 0.05 if trial.quick else 1.0)
    yield f"\n## After {length}\n"
    yield "Sound comes faster than in real time. A step is one of 80 ms; both are timed in turn.\n"
    yield f"| | after 10 s | after {length} | ratio |"
    yield "|---|---|---|---|"
    yield f"| exported state, bytes | {result.early_bytes} | {result.late_bytes} | |"
    yield f"| a step, ms | {result.early:.2f} | {result.late:.2f} | {result.ratio:.3f} |"


def _memory(trial: Trial) -> Iterator[str]:
    sessions = 200 if trial.quick else 1000
    each = memory_each(sessions, trial.sound)
    yield "\n## Memory\n"
    yield f"Each of {sessions} sessions, beside {FIRST} that were there before: {each / 1024:.1f} KB of the server's"
    yield "resident memory, its connection and all else included.\n"
    few, many = (500, 2000) if trial.quick else (1000, 10_000)
    left = churn(few, many, trial.sound)
    yield f"Sessions opened and dropped, {IN_FLIGHT} at a time and {many / left.seconds:.0f} a second: before they"
    yield "start, between chunks or within one, after an export, with an end or without. Once all are gone, the server"
    yield "has\n"
    yield f"| after {few} | after {many} | ratio |"
    yield "|---|---|---|"
    yield f"| {left.early:.1f} MB | {left.late:.1f} MB | {left.late / left.early:.3f} |"


def _detection(trial: Trial) -> Iterator[str]:
    if trial.data is None or (heard := trial.scene) is None:
        return
    talked = talk(trial.data)
    yield "\n## What is heard\n"
    minutes = len(heard.samples) / RATE / 60
    yield f"{minutes:.0f} minutes of continuous sound: {len(heard.spoken)} validation words of Speech Commands, in"
    yield "random order and with near silence between them, its recordings of silence, and sounds of ESC-10's fold 4."
    yield "Cut out: the same recordings posted one by one, with the same threshold. Wrong: of all words, commands heard"
    yield "as another or twice, and other words heard as a command. False alarms are those in the time in which nobody"
    yield "speaks. Talk, in which words reported are false alarms but for commands that are said:"
    minutes_of = (f"{len(samples) / RATE / 60:.0f} minutes of {name}" for name, samples in talked.items())
    yield f"{'; '.join(minutes_of)}.\n"
    columns = "".join(f" in an hour of {name} |" for name in talked)
    yield f"| threshold | commands heard | cut out | wrong | false alarms an hour |{columns} delay, ms |"
    yield "|---|---|---|---|---|" + "---|" * len(talked) + "---|"
    for row in detect(heard, talked, [0.6, 0.7, 0.75, 0.8, 0.9]):
        alarms = "".join(f" {each:.0f} |" for each in row.alarms_an_hour_of_talk.values())
        yield (
            f"| {row.threshold} | {row.hits:.1%} | {row.cut_out:.1%} | {row.wrong_words:.1%} "
            f"| {row.alarms_an_hour:.0f} |{alarms} {row.delay * 1e3:.0f} |"
        )


PARTS: dict[str, Callable[[Trial], Iterator[str]]] = {
    "capacity": _capacity,
    "hour": _hour,
    "memory": _memory,
    "detection": _detection,
}


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
