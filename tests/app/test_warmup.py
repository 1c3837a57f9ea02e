"""How far a checkpoint is batched follows from what a batch costs it."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from app.engine.warmup import most_steps
from models.features import Extracted


class Costly:
    """Stands for a checkpoint whose batch takes ``seconds(rows)`` of its thread."""

    device = torch.device("cpu")

    def __init__(self, seconds: Callable[[int], float]) -> None:
        self.seconds = seconds
        self.rows: list[int] = []

    def decoder(self) -> None:
        return None

    def blank(self) -> Extracted:
        return Extracted({"audio": torch.zeros(50, 2), "image": torch.zeros(1, 2)})

    def options(self) -> None:
        return None

    def predict_batch(self, queries: list[Any]) -> None:
        self.rows.append(len(queries))
        until = time.thread_time() + self.seconds(len(queries))
        while time.thread_time() < until:
            pass


@pytest.mark.parametrize(
    ("seconds", "rows"),
    [
        (lambda rows: 0.002 * rows**1.3, 0),
        (lambda rows: 0.002 * rows, 4),
        (lambda rows: 0.002 * rows**0.7, 4),
        (lambda rows: 0.002 * rows**0.4, 16),
        (lambda _: 0.002, 64),
    ],
    ids=["more than linear", "linear", "a little less", "much less", "constant"],
)
def test_the_more_rows_gain_from_company_the_more_go_together(seconds: Callable[[int], float], rows: int) -> None:
    checkpoint: Any = Costly(seconds)
    wanted = {"audio": 50 * rows, "image": rows} if rows else {}
    assert most_steps(checkpoint, lambda work: work()) == wanted


def test_others_get_their_turn_between_two_batches() -> None:
    checkpoint: Any = Costly(lambda _: 0.001)
    batches = []

    def run(work: Callable[[], Any]) -> Any:
        before = len(checkpoint.rows)
        result = work()
        batches.append(len(checkpoint.rows) - before)
        return result

    most_steps(checkpoint, run)
    assert set(batches) == {1}


def test_searches_begin_together_whatever_that_costs() -> None:
    class Writing(Costly):
        def decoder(self) -> Any:
            return object()

    checkpoint: Any = Writing(lambda rows: 0.002 * rows**1.3)
    assert most_steps(checkpoint, lambda work: work()) == {"audio": 50 * 16, "image": 16}
    assert checkpoint.rows == []
