"""The highest rate at which a server keeps the objective: rising rates, then halving what lies between."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.serving.client import OK, Load, in_turn, load
from benchmarks.serving.journal import Journal, Record
from benchmarks.serving.servers import Running
from benchmarks.serving.workloads import Workload

SHARE = 0.99
_GROWTH, _NEAR = 1.16, 1.08
"""By how much the rate grows at first, and where an earlier round has found about where it lies."""

_PATIENCE = 6.0
"""Objectives that a request is waited for."""

_MOST_STEPS = 12
_OBJECTIVES = 8
"""How many a run takes at least."""

_CLIENTS, _SATURATED_SECONDS = 16, 4.0
"""Who asks again at once, and for how long at least, to find what a server answers at most."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often is measured: ``requests`` are what a run wants, between ``shortest`` and ``longest`` s.

    ``tolerance`` is how near the highest rate is found in the first round, ``fine`` in later ones. ``tunes``: batch
    sizes of peers are tried, and not the largest taken.
    """

    requests: int = 112
    shortest: float = 5.0
    longest: float = 15.0
    rounds: int = 3
    tolerance: float = 0.12
    fine: float = 0.081
    tunes: bool = True

    def seconds(self, rate: float, objective: float) -> float:
        """How long a run at ``rate`` takes: long beside the objective, or what it piles up would still be in time."""
        return max(min(max(self.requests / rate, self.shortest), self.longest), _OBJECTIVES * objective)


def probe(running: Running, workload: Workload, rate: float, effort: Effort, seed: int) -> Record:
    """One run at one rate: latencies in seconds (None: not answered), CPU seconds a request, bytes of memory."""
    running.settle()
    before = running.usage()
    objective = workload.objective
    load_ = load(
        running.url, running.posts, rate, effort.seconds(rate, objective),
        seed=seed, patience=_PATIENCE * objective, objective=objective,
    )  # fmt: skip
    after = running.usage()
    return summary(load_, objective) | {
        "cpu": after.since(before) / max(load_.answered, 1),
        "memory": max(before.memory, after.memory),
    }


def summary(run: Load, objective: float) -> Record:
    """What the page needs of a run."""
    quantiles = {f"p{share:g}": _finite(run.quantile(share / 100)) for share in (50, 90, 95, 99)}
    return quantiles | {
        "rate": run.rate, "seconds": run.seconds, "requests": len(run.outcomes), "answered": run.answered,
        "refused": run.refused, "expired": run.expired, "failed": run.failed, "within": run.within(objective),
        "late": run.late,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if value < float("inf") else None


def holds(result: Record) -> bool:
    """Whether 99 of 100 requests were answered within the objective."""
    return bool(result["within"] >= SHARE * result["requests"])


def capacity(running: Running) -> Record:
    """What it answers a second when ``_CLIENTS`` clients each ask again as soon as they are answered."""
    patience, count, began = 60.0, 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < _SATURATED_SECONDS:
        drawn = np.random.default_rng(count).integers(len(running.posts), size=4 * _CLIENTS)
        outcomes = in_turn(running.url, [running.posts[number] for number in drawn], _CLIENTS, patience)
        count += sum(outcome.status == OK for outcome in outcomes)
    return {"rate": count / spent, "requests": count}


def found(journal: Journal, key: Record, effort: Effort) -> bool:
    """Whether the journal has a round's rate that held, and near above it one that did not."""
    runs = [result for _, result in journal.all(**key)]
    held = max((run["rate"] for run in runs if holds(run)), default=0.0)
    above = min((run["rate"] for run in runs if not holds(run) and run["rate"] > held), default=math.inf)
    return bool(above < held * (1 + _tolerance(key, effort)))


def _tolerance(key: Record, effort: Effort) -> float:
    return effort.fine if int(key["round"]) else effort.tolerance


def search(
    measure: Callable[[float], Record], guess: float, tolerance: float, growth: float = _GROWTH
) -> tuple[float, Record] | None:
    """The highest rate found that holds, and what was measured there; None if none does.

    ``measure`` may answer from a journal: the same answers lead through the same rates.
    """
    low: tuple[float, Record] | None = None
    high: float | None = None
    rate = guess
    for step in range(1, _MOST_STEPS + 1):
        result = measure(rate)
        if holds(result):
            low = (rate, result) if low is None or rate > low[0] else low
        else:
            high = rate if high is None else min(rate, high)
        if low is not None and high is not None:
            if high / low[0] < 1 + tolerance:
                break
            rate = (high * low[0]) ** 0.5
        else:
            # Ever larger steps: a first guess may be far away.
            rate = rate * growth**step if high is None else rate / growth**step
    return low


def goodput(
    journal: Journal, key: Record, running: Callable[[], Running], workload: Workload, guess: float, effort: Effort
) -> float:
    """The server's goodput in requests a second; 0.0 where it keeps the objective at no rate that was tried."""
    seed = 1000 * int(key["round"])

    def measure(rate: float) -> Record:
        # Rounded, so that the key in the journal is the same whatever a float was computed from.
        rate = float(f"{rate:.4g}")
        return journal.get(key | {"rate": rate}, lambda: probe(running(), workload, rate, effort, seed))

    growth = _NEAR if int(key["round"]) else _GROWTH
    best = search(measure, guess, _tolerance(key, effort), growth)
    return best[0] if best else 0.0
