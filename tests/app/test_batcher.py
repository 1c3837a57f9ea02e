"""Which of the rows that wait are answered together."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from typing import Any

import pytest

from app.engine.batcher import Batcher, Lane, Row, cost
from app.engine.device import Device, Search

WORDS = Lane("words", {"text": 100})
OTHERS = Lane("others", {"text": 100})


def row(steps: int = 10, lane: Lane = WORDS, **more: int) -> Row:
    return Row(lane, lambda items: items, steps, {"text": steps, **more})


def taken(*rows: Row) -> list[list[int]]:
    """The batches, by the rows' places in the queue."""
    batcher = Batcher()
    for one in rows:
        batcher.put(one)
    found = []
    while batch := batcher.take():
        found.append([rows.index(one) for one in batch])
    return found


def test_rows_of_a_lane_go_together_up_to_its_bound_of_padded_steps() -> None:
    assert taken(*[row() for _ in range(12)]) == [[*range(10)], [10, 11]]


def test_the_oldest_goes_first_with_those_nearest_in_length() -> None:
    assert taken(row(12), row(40), row(11), row(40), row(13)) == [[0, 2, 4], [1, 3]]


def test_a_row_longer_than_the_bound_goes_alone() -> None:
    assert taken(row(500), row(500), row(10)) == [[0], [1], [2]]


def test_checkpoints_are_not_mixed_and_take_turns_by_age() -> None:
    assert taken(row(), row(lane=OTHERS), row(), row(lane=OTHERS)) == [[0, 2], [1, 3]]


def test_a_lane_without_a_bound_goes_row_by_row() -> None:
    alone = Lane("alone")
    assert taken(row(lane=alone), row(lane=alone)) == [[0], [1]]


def test_each_modality_has_a_bound_of_its_own() -> None:
    both = Lane("both", {"text": 100, "image": 2})
    photos = [Row(both, lambda items: items, None, {"image": 1}) for _ in range(3)]
    assert taken(*photos) == [[0, 1], [2]]


def test_a_modality_that_others_lack_counts_as_padding() -> None:
    both = Lane("both", {"text": 1000, "audio": 1000})
    spoken = Row(both, lambda items: items, None, {"audio": 10})
    assert taken(row(10, both), spoken, row(10, both)) == [[0, 2], [1]]


def test_whoever_was_given_up_is_not_taken() -> None:
    rows = [row() for _ in range(3)]
    rows[0].future.cancel()
    rows[2].future.cancel()
    assert taken(*rows) == [[1]]


def test_with_a_delay_a_batch_waits_for_more_until_it_is_full_or_the_oldest_has_waited() -> None:
    batcher = Batcher(delay=0.05)
    first = row(40)
    batcher.put(first)
    assert batcher.take() == []
    assert 0 < batcher.patience() <= 0.05
    second, third = row(40), row(40)
    batcher.put(second)
    batcher.put(third)
    assert batcher.take() == [first, second]
    assert batcher.take() == []
    time.sleep(0.06)
    assert batcher.take() == [third]


def test_a_lane_that_waits_for_more_holds_up_no_other() -> None:
    batcher = Batcher(delay=60)
    waiting, step, other = row(), row(lane=Lane("streams")), row(lane=OTHERS)
    for one in (waiting, other, step):
        batcher.put(one)
    assert batcher.patience() == 0
    assert batcher.take() == [step]
    assert batcher.take() == []
    assert 59 < batcher.patience() <= 60


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_taken_once_and_no_batch_breaks_its_bounds(seed: int) -> None:
    chance = random.Random(seed)
    rows = [row(chance.randint(1, 150), chance.choice([WORDS, OTHERS])) for _ in range(80)]
    batches = taken(*rows)
    assert sorted(place for batch in batches for place in batch) == [*range(80)]
    for batch in batches:
        padded, real = cost([rows[place] for place in batch])
        assert len(batch) == 1 or (padded <= 100 and real >= 0.75 * padded)
        assert batch[0] == min(batch)
    assert [batch[0] for batch in batches] == sorted(batch[0] for batch in batches)


# On a device


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device("test")
    yield device
    device.close()


def held(device: Device) -> threading.Event:
    """Keeps the device busy until it is set."""
    gate = threading.Event()
    device.submit(lambda: gate.wait(30))
    return gate


def test_what_came_while_the_device_was_busy_is_one_call(device: Device) -> None:
    calls: list[list[Any]] = []

    def run(items: list[Any]) -> list[Any]:
        calls.append(items)
        return [item * 2 for item in items]

    gate = held(device)
    futures = [device.put(Row(WORDS, run, number, {"text": 1})) for number in range(5)]
    gate.set()
    assert [future.result(10) for future in futures] == [0, 2, 4, 6, 8]
    assert calls == [[0, 1, 2, 3, 4]]


def test_a_row_that_cannot_be_answered_fails_alone(device: Device) -> None:
    def run(items: list[int]) -> list[int]:
        if 3 in items:
            raise ArithmeticError("three")
        return items

    gate = held(device)
    futures = [device.put(Row(WORDS, run, number, {"text": 1})) for number in range(6)]
    gate.set()
    wait(futures, 10)
    assert [number for number, future in enumerate(futures) if future.exception()] == [3]
    assert [future.result() for number, future in enumerate(futures) if number != 3] == [0, 1, 2, 4, 5]


def test_time_is_charged_in_shares(device: Device) -> None:
    def run(items: list[Any]) -> list[Any]:
        time.sleep(0.04)
        return items

    gate = held(device)
    rows = [Row(WORDS, run, None, {"text": 1}) for _ in range(4)]
    futures = [device.put(one) for one in rows]
    gate.set()
    wait(futures, 10)
    device.submit(lambda: None).result(10)
    assert all(one.began >= one.since and 0.01 <= one.spent < 0.04 for one in rows)


def test_an_idle_device_keeps_nothing_of_what_it_ran(device: Device) -> None:
    import gc
    import weakref

    class Item:
        pass

    item = Item()
    kept = weakref.ref(item)
    device.put(Row(WORDS, lambda items: [None for _ in items], item, {"text": 1})).result(10)
    device.submit(lambda: None).result(10)
    time.sleep(0.05)
    del item
    gc.collect()
    assert kept() is None


class Slow:
    """A decoder whose steps take long and lead nowhere."""

    def __init__(self) -> None:
        self.steps = 0

    def step_together(self, calls: Sequence[Any]) -> list[Any]:
        self.steps += 1
        time.sleep(0.03)
        return [None for _ in calls]


def test_whoever_waits_for_more_to_share_its_batch_keeps_its_turn_to_join() -> None:
    import torch

    from models.decoding.decoder import StepCall

    device, decoder, call = Device("test", delay=0.3), Slow(), StepCall(torch.zeros(1, 1, dtype=torch.int64), {}, None)
    began, over = threading.Event(), threading.Event()
    late: list[int] = []

    def steps(place: int) -> Any:
        yield call
        # The last of a crowd: from now on whoever comes may join.
        while place == 0 and decoder.steps < 3:
            yield call
        began.set()
        while place == 0 and not over.is_set():
            yield call

    def join(items: list[Any]) -> list[Any]:
        late.append(decoder.steps)
        over.set()
        return [steps(1) for _ in items]

    def search(run: Any, item: int) -> Search:
        return Search(WORDS, run, item, {"text": 1}, decoder=decoder, tell=lambda _: None)  # type: ignore[arg-type]

    try:
        crowd = [device.put(search(lambda items: [steps(item) for item in items], place)) for place in range(4)]
        assert began.wait(30)
        came = decoder.steps
        device.put(search(join, 4)).result(30)
        wait(crowd, 30)
        # It waits for 0.3 seconds, which are ten steps, and not until a crowd would give way.
        assert late[0] - came < 20
    finally:
        device.close()
