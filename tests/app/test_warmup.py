"""How far a checkpoint is batched follows from what a batch costs it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from structlog.testing import capture_logs

from app.engine.service import Service
from app.engine.warmup import most_steps
from app.settings import Settings
from models.features import Extracted
from tests.support import tiny_captioner


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


@pytest.mark.parametrize("stops", [False, True])
def test_a_checkpoint_that_cannot_be_measured_is_told_of_unless_the_server_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    tiny_captioner(tmp_path / "captioner")
    state = Service(Settings(model_dir=[tmp_path], device="cpu", threads=1))
    state.load()

    def closed(*_: object, **__: object) -> None:
        state.draining = stops
        raise RuntimeError("the device is closed")

    monkeypatch.setattr(state.runner, "measure", closed)
    with capture_logs() as lines:
        state.measure()
    state.runner.close()
    told = [line["reason"] for line in lines if line["event"] == "not batched"]
    assert told == ([] if stops else ["the device is closed"])
