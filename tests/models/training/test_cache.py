"""Features kept on disk: what a kill left is gone on from, and what fp16 cannot hold is refused."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.training.cache import FeatureArray, cached_features
from models.training.manifest import DataError


def rows(folder: Path, values: list[float], computed: list[int] | None = None) -> FeatureArray:
    """Three numbers a row, each of them its value; ``computed`` is told which rows were not read."""

    def compute(first: int) -> Iterator[NDArray[np.float32]]:
        for row in range(first, len(values)):
            if computed is not None:
                computed.append(row)
            yield np.full(3, values[row], np.float32)

    return cached_features(folder, {"of": "numbers"}, (len(values), 3), compute, label="numbers")


def test_features_are_computed_once(tmp_path: Path) -> None:
    computed: list[int] = []
    for _ in range(2):
        assert rows(tmp_path, [1, 2], computed).tolist() == [[1] * 3, [2] * 3]
    assert computed == [0, 1]


@pytest.mark.parametrize("left", ["", "one"])
def test_a_marker_that_a_kill_left_half_written_is_begun_anew(tmp_path: Path, left: str) -> None:
    rows(tmp_path, [1, 2])
    (marker,) = tmp_path.glob("*.rows")
    marker.write_text(left)
    computed: list[int] = []
    assert rows(tmp_path, [3, 4], computed).tolist() == [[3] * 3, [4] * 3]
    assert computed == [0, 1]
    assert not list(tmp_path.glob("*.tmp"))


def test_a_disk_that_fills_is_an_error_and_the_next_run_goes_on(tmp_path: Path) -> None:
    given, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def compute(first: int) -> Iterator[NDArray[np.float32]]:
        for row in range(first, 300):
            if row == 256:
                # As of a full disk, a mapping would not tell of it.
                resource.setrlimit(resource.RLIMIT_FSIZE, (256, hard))
            yield np.full(3, row, np.float32)

    try:
        with pytest.raises(OSError, match="File too large"):
            cached_features(tmp_path, {"of": "numbers"}, (300, 3), compute, label="numbers")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given, hard))
    computed: list[int] = []
    assert rows(tmp_path, [float(row) for row in range(300)], computed)[:, 0].tolist() == list(range(300))
    assert computed == list(range(256, 300))


@pytest.mark.parametrize("value", [70_000.0, float("nan")])
def test_a_feature_that_fp16_cannot_hold_is_refused_with_its_row(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match=r"numbers: row 2 has a feature that is NaN, .* beyond 65504, .* or scale"):
        rows(tmp_path, [1, value])
