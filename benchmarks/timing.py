"""Two calls measured in turn, so that whatever else the machine does disturbs both alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Pair:
    """Medians of both in seconds, and the median of the ratios of neighbours."""

    ours: float
    bare: float
    ratio: float


def interleaved(ours: Callable[[], object], bare: Callable[[], object], *, device: str, seconds: float = 0.6) -> Pair:
    """Measure both in turn for about ``seconds`` of each, in samples of at least a fifth of a millisecond.

    On a CPU it is the process's own time that counts, over all its threads; on a GPU the time until it has finished.
    """
    for _ in range(3):
        ours()
        bare()
    once = _seconds(bare, 1, device)
    repeats = max(1, round(2e-4 / once))
    rounds = min(2000, max(9, round(seconds / (once * repeats))))
    pairs = []
    for turn in range(rounds):
        first, second = (ours, bare) if turn % 2 else (bare, ours)
        one, other = _seconds(first, repeats, device), _seconds(second, repeats, device)
        pairs.append((one, other) if turn % 2 else (other, one))
    return Pair(
        statistics.median(a for a, _ in pairs) / repeats,
        statistics.median(b for _, b in pairs) / repeats,
        statistics.median(a / b for a, b in pairs),
    )


def alone(call: Callable[[], object], *, device: str, seconds: float = 0.3) -> float:
    """Median seconds of one call."""
    for _ in range(3):
        call()
    rounds = min(1000, max(9, round(seconds / _seconds(call, 1, device))))
    return statistics.median(_seconds(call, 1, device) for _ in range(rounds))


def _seconds(call: Callable[[], object], repeats: int, device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    started = clock()
    for _ in range(repeats):
        call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started
