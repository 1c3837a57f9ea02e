"""The service, with its steps shared as it is, or as servers without state do it. Run as a process of its own."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import torch

from app.server import Server
from app.settings import ZOO, Settings
from models.pipeline import Pipeline
from models.readings.reading import Event
from models.sequence import pad
from models.streaming import checkpoint
from models.streaming.recurrent import RecurrentStreams
from models.streaming.sound import SoundFront
from models.streaming.track import Work

MODEL = "voice-commands"
WINDOW = 1.0
"""Seconds that are run again at each chunk, as long as the recordings that the checkpoint was trained on."""


@contextmanager
def serving(mode: str = "shared", idle: float = 60) -> Iterator[tuple[str, psutil.Process]]:
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


class Alone(RecurrentStreams):
    """One call of the network for each session."""

    def step(self, works: Sequence[Work]) -> list[list[Event]]:
        """Each by itself."""
        return [super(Alone, self).step([work])[0] for work in works]


class Sliding(RecurrentStreams):
    """No state: the last second is run again, from its samples, at each chunk."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._heard: dict[int, torch.Tensor] = {}

    @torch.inference_mode()
    def step(self, works: Sequence[Work]) -> list[list[Event]]:
        """Features and network anew, and the answer to each session's last second."""
        events = []
        (front,) = self.fronts.values()
        assert isinstance(front, SoundFront)
        size = round(WINDOW * front.rate)
        for work in works:
            track = work.track
            new = torch.from_numpy(work.media["audio"])
            heard = self._heard[track.row] = torch.cat([self._heard.get(track.row, torch.zeros(size)), new])[-size:]
            frames = front.features.scaled(front.log_mel(heard.numpy()))
            logits = self.network({"audio": pad([frames])})
            (probabilities,) = logits.softmax(1).tolist()
            track.steps += work.ticks
            best = max(probabilities)
            answer = {"type": "partial", "time": round(track.steps * self.tick, 3), "predictions": [best]}
            events.append([answer] if work.ticks else [])
        return events


def main() -> None:
    """Serve until the signal."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mode", choices=("shared", "alone", "window"), default="shared")
    arguments.add_argument("--threads", type=int, default=0)
    arguments.add_argument("--idle", type=float, default=60)
    chosen = arguments.parse_args()
    kinds: dict[str, type[RecurrentStreams]] = {"alone": Alone, "window": Sliding}
    if chosen.mode in kinds:
        original = checkpoint.recurrent_streams

        def replaced(pipeline: Pipeline) -> RecurrentStreams:
            made = original(pipeline)
            kind: type[RecurrentStreams] = kinds[chosen.mode]
            return kind(made.network, made.fronts, made.reading, made.required)

        checkpoint.recurrent_streams = replaced
    settings = Settings(
        port=0,
        model_dir=[ZOO / MODEL],
        threads=chosen.threads,
        stream_sessions=20_000,
        stream_idle_seconds=chosen.idle,
        log_level="error",
    )
    Server(settings, lambda address, _: print(address, flush=True)).run()


if __name__ == "__main__":
    main()
