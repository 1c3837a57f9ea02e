"""Measure the shipped captioner: HTTP against the same pipeline in a loop, and start-up against importing torch.

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
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import numpy as np
from PIL import Image

from app.settings import ZOO

_START_SECONDS = 120.0


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
    start, torch_alone = _start_up(chosen.model)
    _row("start to ready", start, "import torch and read the weights", torch_alone)
    http, loop = _one_at_a_time(chosen.model, photo, chosen.rounds)
    _row("a photo over HTTP", http, "the same pipeline in a loop", loop)


def _row(name: str, value: float, other: str, base: float) -> None:
    print(f"| {name} | {1e3 * value:.1f} ms | {other} | {1e3 * base:.1f} ms | {value / base:.2f} |", flush=True)


def _one_at_a_time(model: str, photo: bytes, rounds: int) -> tuple[float, float]:
    from models.media.limits import MediaLimits
    from models.pipeline import Pipeline

    pipeline = Pipeline.load(ZOO / model)

    def loop() -> None:
        decoded = pipeline.decode({"image": [photo]}, MediaLimits())
        pipeline.predict(pipeline.features(decoded), pipeline.options())

    with _Server() as url, httpx.Client(base_url=url) as client:

        def over_http() -> None:
            client.post(f"/v1/models/{model}/predict", files={"image": photo}).raise_for_status()

        for warm in (loop, over_http):
            warm()
        pairs = [(_seconds(over_http), _seconds(loop)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def _start_up(model: str, rounds: int = 5) -> tuple[float, float]:
    weights = ZOO / model / "model.safetensors"
    bare = [sys.executable, "-c", f"import torch; open({str(weights)!r}, 'rb').read()"]

    def import_torch() -> None:
        subprocess.run(bare, check=True)  # noqa: S603  our own command

    def serve() -> float:
        started = time.perf_counter()
        with _Server():
            return time.perf_counter() - started

    pairs = [(serve(), _seconds(import_torch)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


class _Server:
    """``fusionrnn serve`` on a free port, ready when entered."""

    def __enter__(self) -> str:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(  # noqa: S603  our own command
            [Path(sys.executable).with_name("fusionrnn"), "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"/docs" in line:
                return line.split()[-1].decode().removesuffix("/docs")
        self._log.seek(0)
        raise RuntimeError(f"the server did not start: {self._log.read().decode()}")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_START_SECONDS)
        self._log.close()


def _seconds(call: Callable[[], None]) -> float:
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
