"""Before a checkpoint serves: run it once, and find out how many of its steps it pays to run together."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from models.pipeline import Pipeline

Run: TypeAlias = Callable[[Callable[[], Any]], Any]
_ROWS = 4
_WORTH = {3.0: 64, 1.6: 16, 0.9: 4}
"""Rows of a batch by how many times as fast each of four is as one alone, by a measurement that may err by a tenth."""
_TOGETHER = 16
"""Of searches, which are answered together anyway: where company costs nothing, they also begin together."""
_RUNS = 4
"""The first ones of a shape plan it, and find out what memory it takes."""


def warm_up(pipeline: "Pipeline", run: Run) -> dict[str, int]:
    """The most padded steps by modality that a batch should have, none where rows are best run one by one.

    Recurrent networks gain much from company, as their weights are read once for all; a convolution on a CPU gains
    little. ``run`` runs something where the checkpoint will serve; it is called for one batch at a time, so that others
    get their turn in between.
    """
    run(pipeline.warm_up)
    faster = _seconds(pipeline, run, 1) / _seconds(pipeline, run, _ROWS)
    rows = next((rows for worth, rows in _WORTH.items() if faster >= worth), 0)
    if rows and pipeline.decoder() is not None:
        rows = max(rows, _TOGETHER)
    return {name: rows * length for name, length in pipeline.blank().lengths.items()} if rows else {}


def _seconds(pipeline: "Pipeline", run: Run, rows: int) -> float:
    """Seconds a row of blank input of the usual size, at its fastest."""
    from models.tasks.task import Query

    queries = [Query(pipeline.blank(), pipeline.options())] * rows
    answer = pipeline.predict_batch if pipeline.decoder() is None else pipeline.searches
    # On a CPU the time that the thread itself computes: whatever else runs on the machine now is gone tomorrow.
    clock = time.thread_time if pipeline.device.type == "cpu" else time.perf_counter

    def timed() -> float:
        started = clock()
        answer(queries)
        return clock() - started

    return float(min(run(timed) for _ in range(_RUNS))) / rows
