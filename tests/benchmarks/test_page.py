"""The page says what the journal has, marks what misses its target, and invents nothing."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.serving.comparison import figure
from benchmarks.serving.journal import Journal
from benchmarks.serving.page import write
from benchmarks.serving.workloads import WORKLOADS

(TEXT,) = (workload for workload in WORKLOADS if workload.name == "w3")


def note(journal: Journal, server: str, rates: dict[float, bool], round_: int = 0, runtime: str = "torch") -> None:
    for rate, held in rates.items():
        result: dict[str, Any] = {
            "rate": rate, "requests": 100, "within": 100 if held else 50, "failed": 0, "p50": 0.01, "p95": 0.02,
            "p99": 0.03 if held else None, "cpu": 0.004, "memory": 2e8,
        }  # fmt: skip
        key = {"kind": "goodput", "workload": "w3", "server": server, "runtime": runtime, "round": round_, "rate": rate}
        journal.get(key, lambda result=result: result)  # type: ignore[misc]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal.jsonl")


def test_goodput_is_the_best_rate_that_held_in_each_round_and_their_median(journal: Journal) -> None:
    for round_, best in enumerate((90.0, 110.0, 100.0)):
        note(journal, "fusionrnn", {50.0: True, best: True, 150.0: False}, round_)
    found = figure(journal, TEXT, "fusionrnn", "torch")
    assert found is not None
    assert (list(found.rounds), found.median) == ([90.0, 110.0, 100.0], 100.0)


def test_a_server_that_held_nowhere_counts_as_zero(journal: Journal) -> None:
    note(journal, "ray", {10.0: False})
    found = figure(journal, TEXT, "ray", "torch")
    assert found is not None
    assert found.median == 0


def test_the_page_has_the_ratio_to_the_best_and_marks_what_misses(journal: Journal, tmp_path: Path) -> None:
    note(journal, "fusionrnn", {110.0: True})
    note(journal, "fusionrnn", {200.0: True}, runtime="auto")
    note(journal, "litserve", {100.0: True, 120.0: False})
    note(journal, "fastapi", {50.0: True})
    out = tmp_path / "serving.md"
    write(journal, out, "make bench", {"bentoml": "not installed: no such package"})
    page = out.read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith("| w3 |"))
    assert [cell.strip() for cell in row.split("|")[2:5]] == ["**1.10**", "not measured", "2.00"]
    assert "| BentoML | not installed: no such package | |" in page
    assert (tmp_path / "pictures" / "serving-w3-torch.svg").is_file()
    assert "w1" not in page.partition("## Ratios")[0]
    assert "## Memory" not in page


def test_what_each_stage_takes_stands_beside_what_a_request_costs(journal: Journal, tmp_path: Path) -> None:
    note(journal, "fusionrnn", {110.0: True})
    note(journal, "litserve", {100.0: True})
    spent = {"decode": 0.001, "features": 0.0005, "network": {"1": 0.003, "4": 0.002, "16": 0.0015}}
    journal.get({"kind": "stages", "workload": "w3", "runtime": "torch"}, lambda: spent)
    out = tmp_path / "serving.md"
    write(journal, out, "make bench", {})
    assert "| w3, torch's own kernels | 1 | 0.5 | 3 | 2 | 1.5 | 4 | 4 |" in out.read_text(encoding="utf-8")


def test_the_service_alone_is_told_where_it_was_measured(journal: Journal, tmp_path: Path) -> None:
    note(journal, "fusionrnn", {100.0: True})
    run = {"rate": 200.0, "seconds": 10.0, "within": 950, "answered": 960, "refused": 1000, "expired": 40, "failed": 0}
    journal.get({"kind": "overload", "workload": "w3"}, lambda: run | {"sustained": 100.0})
    marks = {"marks": [10**8, 102 * 10**6], "rest": [90 * 10**6, 99 * 10**6]}
    journal.get({"kind": "memory"}, lambda: marks | {"requests": 20, "first": 10, "failed": 0})
    seconds = {"1": 0.01, "4": 0.04, "1800": None}
    journal.get({"kind": "length", "model": "av-speech", "unit": "s"}, lambda: {"seconds": seconds})
    lines = [
        {"most": {"stepwise": 12.0, "padded": 10.0, "thinning": 12.0}},
        {
            "share": 0.5,
            "stepwise": {"p90": 0.1, "throughput": 5.0},
            "padded": {"p90": 0.2, "throughput": 5.0},
            "thinning": {"p90": 0.1, "throughput": 5.0},
        },
    ]
    journal.get({"kind": "stepwise", "runtime": "torch"}, lambda: {"lines": lines})
    out = tmp_path / "serving.md"
    write(journal, out, "make bench", {})
    page = out.read_text(encoding="utf-8")
    assert "| w3 | 200 | 95 | 95% | 960 | 1000 | 40 | 0 |" in page
    assert "+2.0%" in page
    assert "| av-speech | 4 s | 40.0 | 10.00 | 1.00 |" in page
    assert "| av-speech | 1800 s | refused" in page
    assert "| torch | 50% | 100 | 200 | 0.50 | 100 | 1.00 |" in page
    assert "| torch | all at once | 12 | 10 | 1.20 | 12 | 1.00 |" in page
