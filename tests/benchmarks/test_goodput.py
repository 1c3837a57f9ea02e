"""The search finds the highest rate that holds, and goes the same way over what a journal has."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.goodput import Effort, holds, search
from benchmarks.serving.journal import Journal


def server(capacity: float, log: list[float]) -> Any:
    """Keeps the objective up to its capacity."""

    def measure(rate: float) -> dict[str, Any]:
        log.append(rate)
        return {"requests": 1000, "within": 1000 if rate <= capacity else 900}

    return measure


@pytest.mark.parametrize("guess", [0.5, 9.0, 10.0, 11.0, 300.0])
def test_the_goodput_is_found_from_any_guess(guess: float) -> None:
    asked: list[float] = []
    found = search(server(10, asked), guess, tolerance=0.06)
    assert found is not None
    assert 10 / 1.06 <= found[0] <= 10
    assert len(asked) <= 12


def test_a_server_that_never_keeps_the_objective_has_none() -> None:
    assert search(server(0, []), 10, tolerance=0.06) is None


@pytest.mark.parametrize(("within", "held"), [(990, True), (989, False)])
def test_one_request_in_a_hundred_may_be_late(within: int, held: bool) -> None:
    assert holds({"requests": 1000, "within": within}) is held


def test_a_run_is_long_enough_for_its_quantile_and_not_endless() -> None:
    effort = Effort(requests=200, shortest=8, longest=40)
    assert [effort.seconds(rate, 0.1) for rate in (1000, 10, 1)] == [8, 20, 40]
    assert effort.seconds(1000, 2) == 16


def test_a_journal_measures_once(tmp_path: Path) -> None:
    path, asked = tmp_path / "runs" / "journal.jsonl", list[int]()

    def measure() -> dict[str, int]:
        asked.append(1)
        return {"rate": 5}

    key = {"kind": "goodput", "round": 0}
    assert Journal(path).get(key, measure) == {"rate": 5}
    again = Journal(path)
    assert again.get({"round": 0, "kind": "goodput"}, measure) == {"rate": 5}
    again.get(key | {"round": 1}, measure)
    assert len(asked) == 2
    assert [found["round"] for found, _ in again.all(kind="goodput")] == [0, 1]
    assert list(again.all(kind="limit")) == []


def test_a_line_that_was_cut_off_is_measured_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).get({"a": 1}, lambda: {"b": 2})
    whole = path.read_text()
    path.write_text(whole + '{"key": {"a": 2}, "resu')
    journal = Journal(path)
    assert journal.get({"a": 2}, lambda: {"b": 3}) == {"b": 3}
    assert Journal(path).get({"a": 2}, lambda: {"b": 4}) == {"b": 3}
