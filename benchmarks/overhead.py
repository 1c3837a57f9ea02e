"""Measure the shipped captioner: HTTP against the same pipeline in a loop, and start-up, also beside all the others.

``python -m benchmarks.overhead``. Every figure is a ratio of two things measured in turn in one run, so that a busy
machine disturbs both alike.
"""

import argparse
import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx2 as httpx
import numpy as np
import psutil
from PIL import Image

from app.settings import ZOO

_START_SECONDS = 120.0
_IDLE_SHARE = 0.05
"""Of a core, below which a server rests."""


def main() -> None:
    """Print a Markdown table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--photo", type=Path, help="a photo of yours; the default is made up, 1600 x 1200")
    arguments.add_argument("--rounds", type=int, default=40)
    arguments.add_argument("--model", default="captioner")
    chosen = arguments.parse_args()
    photo = chosen.photo.read_bytes() if chosen.photo else _made_up()
    print("| measured | median | compared with | median | ratio |")
    print("|---|---|---|---|---|")
    alone, everything, torch_alone = _start_up(chosen.model)
    _row("start to ready, alone", alone.seconds, "import torch and read the weights", torch_alone)
    _row("start to ready, all checkpoints", everything.seconds, f"{chosen.model} alone", alone.seconds)
    http, loop = _one_at_a_time(chosen.model, photo, chosen.rounds)
    _row("a photo over HTTP", http, "the same pipeline in a loop", loop)
    print(f"\nMemory (PSS) when ready: {alone.megabytes:.0f} MB alone, {everything.megabytes:.0f} MB with all.")


def _row(name: str, value: float, other: str, base: float) -> None:
    print(f"| {name} | {1e3 * value:.1f} ms | {other} | {1e3 * base:.1f} ms | {value / base:.2f} |", flush=True)


def _one_at_a_time(model: str, photo: bytes, rounds: int) -> tuple[float, float]:
    from models.pipeline import Pipeline

    pipeline = Pipeline.load(ZOO / model)

    def loop() -> None:
        pipeline.answer({"image": photo})

    with _Server(ZOO) as server, httpx.Client(base_url=server.url) as client:
        server.settle()

        def over_http() -> None:
            client.post(f"/v1/models/{model}/predict", files={"image": photo}).raise_for_status()

        for warm in (loop, over_http):
            warm()
        pairs = [(_seconds(over_http), _seconds(loop)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


@dataclass(frozen=True, slots=True)
class _Start:
    seconds: float
    megabytes: float


def _start_up(model: str, rounds: int = 5) -> tuple[_Start, _Start, float]:
    """Medians of starts with the one checkpoint and with all, and of importing torch, in turn."""
    weights = ZOO / model / "model.safetensors"
    bare = [sys.executable, "-c", f"import torch; open({str(weights)!r}, 'rb').read()"]
    alone, everything, torch_alone = list[_Start](), list[_Start](), list[float]()
    for _ in range(rounds):
        alone.append(_started(ZOO / model))
        everything.append(_started(ZOO))
        torch_alone.append(_seconds(lambda: subprocess.run(bare, check=True)))  # noqa: S603  our own command
    return _median(alone), _median(everything), statistics.median(torch_alone)


def _started(models: Path) -> _Start:
    started = time.perf_counter()
    with _Server(models) as server:
        return _Start(time.perf_counter() - started, server.megabytes())


def _median(starts: Sequence[_Start]) -> _Start:
    seconds, megabytes = ([getattr(start, name) for start in starts] for name in ("seconds", "megabytes"))
    return _Start(statistics.median(seconds), statistics.median(megabytes))


class _Server:
    """``fusionrnn serve`` on a free port, ready when entered."""

    url: str

    def __init__(self, models: Path) -> None:
        self._models = models

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603  our own command
            [Path(sys.executable).with_name("fusionrnn"), "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "FUSIONRNN_MODEL_DIR": str(self._models)},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"/docs" in line:
                self.url = line.split()[-1].decode().removesuffix("/docs")
                return self
        self._log.seek(0)
        raise RuntimeError(f"the server did not start: {self._log.read().decode()}")

    def megabytes(self) -> float:
        """Its memory, pages that it shares with others counted by its share."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1e3

    def settle(self) -> None:
        """Wait until it rests: once ready it still finds out how much to batch, while nobody asks for anything."""
        process, until = psutil.Process(self._process.pid), time.monotonic() + _START_SECONDS
        while process.cpu_percent(1.0) > 100 * _IDLE_SHARE and time.monotonic() < until:
            pass

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_START_SECONDS)
        self._log.close()


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _made_up() -> bytes:
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()
