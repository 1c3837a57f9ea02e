"""What waits for a step takes up as much as its values."""

import numpy as np

from models.streaming.track import Queue


def test_samples_one_by_one_take_up_no_more_than_together() -> None:
    queue = Queue(np.zeros(0, np.float32))
    for value in range(10_000):
        queue.put(np.array([value], np.float32))
    assert queue.nbytes == 40_000
    assert len(queue._parts) <= 10
    np.testing.assert_array_equal(queue.take(9_000), np.arange(9_000))
    queue.put(np.arange(10_000, 10_005, dtype=np.float32))
    np.testing.assert_array_equal(queue.take(queue.size), np.arange(9_000, 10_005))
    assert queue.nbytes == 0
