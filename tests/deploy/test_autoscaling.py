"""Replicas follow the waiting steps, within their bounds."""

from types import SimpleNamespace
from typing import Any

import pytest

from deploy.autoscaling import STEPS, BySteps


def context(waiting: dict[str, float] | None, now: int = 2) -> Any:
    metrics = {} if waiting is None else {STEPS: waiting}
    return SimpleNamespace(
        aggregated_metrics=metrics,
        target_num_replicas=now,
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=5,
    )


@pytest.mark.parametrize(
    ("waiting", "replicas"),
    [
        ({"a": 0.0, "b": 0.0}, 1),
        ({"a": 900.0, "b": 100.0}, 1),
        ({"a": 1000.0, "b": 1.0}, 2),
        ({"a": 2500.0, "b": 1200.0}, 4),
        ({"a": 1e6}, 5),
    ],
)
def test_each_replica_has_at_most_its_steps(waiting: dict[str, float], replicas: int) -> None:
    assert BySteps(1000)(context(waiting)) == (replicas, {})


@pytest.mark.parametrize("waiting", [None, {}])
def test_without_reports_nothing_changes(waiting: dict[str, float] | None) -> None:
    assert BySteps(1000)(context(waiting, now=3)) == (3, {})
