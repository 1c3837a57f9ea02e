"""One progress bar for all long work: it redraws on a terminal and prints sparse lines into a log file."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_LOG_EVERY_S = 30.0


@contextmanager
def progress(label: str, *, total: int, start: int = 0) -> Iterator[Callable[..., None]]:
    """Yields ``advance(note="")``, to be called once an item of ``total``."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=total, completed=start, note="")
            yield lambda note="": bar.update(task, advance=1, note=note)
        return
    done, begun, spoken = start, time.monotonic(), time.monotonic()

    def advance(note: str = "") -> None:
        nonlocal done, spoken
        done += 1
        if done == total or time.monotonic() - spoken > _LOG_EVERY_S:
            spoken = time.monotonic()
            print(f"{label} {done}/{total} {spoken - begun:.0f}s {note}", file=sys.stderr, flush=True)

    yield advance
