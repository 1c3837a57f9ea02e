"""A session takes up little of a real server's memory, and many of them leave nothing behind."""

import sys

import numpy as np
import pytest

from benchmarks.stream.memory import churn, memory_each

SOUND = np.random.default_rng(0).integers(-3000, 3000, 16_000).astype("<i2").tobytes()

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(sys.platform != "linux", reason="memory is of Linux")]


def test_a_session_takes_up_less_than_72_kilobytes_all_in() -> None:
    # Many: on a busy machine steps come in sizes whose kernels are new, and these belong to no session.
    assert memory_each(600, SOUND) < 72 * 1024


def test_sessions_dropped_at_any_moment_leave_memory_where_it_was() -> None:
    left = churn(300, 900, SOUND)
    assert left.late < 1.05 * left.early
