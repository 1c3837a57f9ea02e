"""How long a request's stages take."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class ServerTiming:
    """Milliseconds a request spent in each stage, for the header of that name and the log."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.stage = "queue"
        """What is being done, as far as it is known."""

    def add(self, stage: str, seconds: float) -> None:
        """Add to ``stage``; stages keep the order of their first mention."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds * 1e3

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes."""
        started, self.stage = time.perf_counter(), stage
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def header(self) -> str:
        """The value of the Server-Timing header."""
        return ", ".join(f"{stage};dur={spent:.2f}" for stage, spent in self.taken().items())

    def taken(self) -> dict[str, float]:
        """The stages so far; a thread that nobody waits for any more may still add to them."""
        return self.stages.copy()
