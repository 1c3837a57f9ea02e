"""Before a checkpoint serves: run it once, and find out how many of its steps it pays to run together."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from models.pipeline import Pipeline

Run: TypeAlias = Callable[[Callable[[], Any]], Any]
_MOST_ROWS = 64
_GAIN = 0.9
"""What a row of a doubled batch may take at most, of what it took before, for the doubling to pay."""
_LONGEST = 0.08
"""Seconds after which a batch is long enough: others wait for its end."""


def warm_up(pipeline: "Pipeline", run: Run) -> dict[str, int]:
    """The most padded steps by modality that a batch should have, none where rows are best run one by one.

    The rows of blank input of the usual size are doubled as long as each takes a tenth less. Recurrent networks gain
    much, as their weights are read once for all; on a CPU a convolution gains nothing. ``run`` runs something where
    the checkpoint will serve; it is called for one batch at a time, so that others get their turn in between.
    """
    run(pipeline.warm_up)
    rows, seconds = 1, _seconds(pipeline, run, 1)
    while rows < _MOST_ROWS and rows * seconds < _LONGEST:
        doubled = _seconds(pipeline, run, 2 * rows)
        if doubled > _GAIN * seconds:
            break
        rows, seconds = 2 * rows, doubled
    return {name: rows * length for name, length in pipeline.blank().lengths.items()} if rows > 1 else {}


def _seconds(pipeline: "Pipeline", run: Run, rows: int) -> float:
    """Seconds a row; the better of two runs, as the first of a shape also plans it."""
    from models.tasks.task import Query

    queries = [Query(pipeline.blank(), pipeline.options())] * rows
    answer = pipeline.predict_batch if pipeline.decoder() is None else pipeline.searches

    def timed() -> float:
        started = time.perf_counter()
        answer(queries)
        return time.perf_counter() - started

    return float(min(run(timed), run(timed))) / rows
