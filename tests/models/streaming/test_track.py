"""What waits for a step takes up as much as its values."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.state import State
from models.streaming.session import Session
from models.streaming.track import Queue, Track


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


def open_track() -> Track:
    """Sound of 640 samples a tick, and pictures."""
    queues = {"audio": Queue(np.zeros(0, np.int64)), "video": Queue(np.zeros(0, np.int64))}
    return Track(0, (True, True), queues, {"audio": 640, "video": 1}, Any)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 6)), min_size=1, max_size=6), st.integers(1, 900))
def test_ticks_of_equal_time_stay_paired_whatever_lags_at_a_flush(flushes: list[tuple[int, int]], size: int) -> None:
    """Each sample, and each picture, says when it was: after any flushes the two are half a picture apart at most."""
    track, sent = open_track(), {"audio": 0, "video": 0}
    for samples, pictures in flushes:
        for name, count in (("audio", samples), ("video", pictures)):
            track.feed(name, np.arange(sent[name], sent[name] + count))
            sent[name] += count
        while track.ticks:
            track.take()
        assert track.take("flush").end == "flush"
    # Whatever lagged has come by then, in chunks of any size.
    whole = 40
    for at in range(sent["audio"], whole * 640, size):
        track.feed("audio", np.arange(at, min(at + size, whole * 640)))
    for at in range(sent["video"], whole):
        track.feed("video", np.arange(at, at + 1))
    media = track.take().media
    assert len(media["video"]) > 0
    assert abs(media["audio"][0] / 640 - media["video"][0]) <= 0.5


def test_what_is_owed_goes_along_with_a_session() -> None:
    first, second = (Session(Rows(), open_track(), {}) for _ in range(2))
    first.put("audio", np.arange(1300), 0, 0)
    first.mark("flush")
    first.mark("export")
    assert first.next()[0] is not None
    mark = first.next()[1]
    assert mark is not None
    second.resume(first.snapshot(mark))
    second.put("video", np.arange(5), 1, 0)
    second.put("audio", np.arange(1300, 2600), 2, 0)
    work = second.next()[0]
    assert work is not None
    np.testing.assert_array_equal(work.media["video"], [2, 3])


class Rows:
    """No network at all."""

    def read(self, track: Track) -> tuple[State, list[float]]:
        return {}, []

    def write(self, track: Track, state: State, numbers: list[float]) -> None:
        """There is nothing to write."""

    def close(self, track: Track) -> None:
        """There is nothing to close."""
