"""How many of a checkpoint's steps it pays to run together."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from app.engine.device import Device

if TYPE_CHECKING:
    from models.pipeline import Pipeline

T = TypeVar("T")
Run: TypeAlias = Callable[[Callable[[], Any]], Any]
_ROWS = 4
_WORTH = {3.0: 64, 1.6: 16, 0.9: 4}
"""Rows of a batch by how many times as fast each of four is as one alone, by a measurement that may err by a tenth."""
_TOGETHER = 16
"""Searches that begin together: what they gain are the steps that they share, so there is nothing to measure."""
_RUNS = (2, 4)
"""Least and most: the first ones of a shape plan it, and find out what memory it takes."""
_BUSY = 20.0
"""How many times as long as a run takes it waits for a device that is busy."""
_ENOUGH = 0.08
"""Seconds of runs of one shape, after which the least will do: what takes long varies less."""


class Aside:
    """Runs what is measured on devices, where nobody else has work for them.

    Whoever comes meanwhile waits for one run at most. A device that is never idle runs one all the same, for a small
    share of its time: that is where batches are needed most.
    """

    def __init__(self) -> None:
        self._took = 0.1
        """Seconds of the last run."""

    def run(self, device: Device, work: Callable[[], T]) -> T:
        """What ``work`` returns, once the device has had its turn with it."""

        def timed() -> tuple[T, float]:
            began = time.perf_counter()
            return work(), time.perf_counter() - began

        answer, self._took = device.submit_aside(timed, _BUSY * self._took).result()
        return answer


def most_steps(pipeline: "Pipeline", run: Run) -> dict[str, int]:
    """The most padded steps by modality that a batch should have, none where rows are best run one by one.

    Recurrent networks gain much from company, as their weights are read once for all; a convolution on a CPU gains
    little. ``run`` runs something where the checkpoint will serve; it is called for one batch at a time, so that others
    get their turn in between.
    """
    if pipeline.decoder() is not None:
        rows = _TOGETHER
    else:
        faster = _seconds(pipeline, run, 1) / _seconds(pipeline, run, _ROWS)
        rows = next((rows for worth, rows in _WORTH.items() if faster >= worth), 0)
    return {name: rows * length for name, length in pipeline.blank().lengths.items()} if rows else {}


def _seconds(pipeline: "Pipeline", run: Run, rows: int) -> float:
    """Seconds a row of blank input of the usual size, at its fastest."""
    from models.tasks.task import Query

    queries = [Query(pipeline.blank(), pipeline.options())] * rows
    # On a CPU the time that the thread itself computes: whatever else runs on the machine now is gone tomorrow.
    clock = time.thread_time if pipeline.device.type == "cpu" else time.perf_counter

    def timed() -> float:
        started = clock()
        pipeline.predict_batch(queries)
        return clock() - started

    least, most = _RUNS
    spent: list[float] = []
    while len(spent) < least or (len(spent) < most and sum(spent) < _ENOUGH):
        spent.append(float(run(timed)))
    return min(spent) / rows
