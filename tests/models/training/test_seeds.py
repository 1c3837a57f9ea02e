"""Student's t against its tables, and what it says of a few seeds."""

import math

import numpy as np
import pytest

from models.training.metrics.seeds import t_interval, t_quantile


@pytest.mark.parametrize(
    ("freedom", "published"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, published: float) -> None:
    assert t_quantile(freedom) == pytest.approx(published, abs=6e-4)


def test_the_interval_of_a_small_sample() -> None:
    mean, half = t_interval([1.0, 2.0, 3.0, 4.0])
    assert mean == 2.5
    assert half == pytest.approx(3.1824 * math.sqrt(5 / 3) / 2, rel=1e-4)


def test_the_interval_covers_the_mean_of_19_samples_in_20() -> None:
    rng = np.random.default_rng(0)
    intervals = [t_interval(rng.normal(size=5)) for _ in range(2000)]
    assert np.mean([abs(mean) <= half for mean, half in intervals]) == pytest.approx(0.95, abs=0.015)


def test_one_seed_has_no_interval() -> None:
    assert math.isnan(t_interval([0.5])[1])
