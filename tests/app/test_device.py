"""Searches on a device's thread: they share steps, come and go, fail alone, and answer as they would by themselves."""

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.batcher import Batcher, Lane, Row
from app.engine.device import Device, Search, compute
from models.media import MediaLimits
from models.pipeline import Pipeline
from models.tasks.task import Query
from tests.support import encoded_photo, tiny_captioner


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline.load(tiny_captioner(tmp_path_factory.mktemp("zoo") / "captioner"))


class Counted:
    """A watcher that knows how many searches are under way."""

    def __init__(self) -> None:
        self.searches = 0

    def batch(self, lane: str, rows: int, padded: int, real: int) -> None:
        """Not of interest."""

    def searching(self, rows: int) -> None:
        self.searches = rows


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def device(counted: Counted) -> Iterator[Device]:
    device = Device("test", observer=counted)
    yield device
    device.close()


CHOICES: list[dict[str, Any]] = [
    {},
    {"beam_size": 1},
    {"beam_size": 5, "num_captions": 5, "language": "zh"},
    {"max_length": 3, "language": "zh"},
    {"temperature": 1.0, "seed": 3, "num_captions": 2},
]


def searched(device: Device, decoder: Any, begin: Any, tell: Any) -> Future[Any]:
    """A search over ``decoder``, put as a request's is."""
    return device.put(Search(Lane("other"), lambda begins: [begins[0]()], begin, decoder=decoder, tell=tell))


def ask(device: Device, pipeline: Pipeline, options: dict[str, Any], tell: Any = lambda _: None) -> Future[Any]:
    features = pipeline.features(pipeline.decode({"image": [encoded_photo()]}, MediaLimits()))
    chosen = pipeline.options.model_validate(options)
    decoder = pipeline.decoder()
    assert decoder is not None
    return searched(device, decoder, lambda: pipeline.searches([Query(features, chosen, told=True)])[0], tell)


def alone(pipeline: Pipeline, options: dict[str, Any]) -> Any:
    features = pipeline.features(pipeline.decode({"image": [encoded_photo()]}, MediaLimits()))
    return pipeline.predict(features, pipeline.options.model_validate(options))


def texts(result: Any) -> list[str]:
    return [caption.text for caption in result.captions]


def test_searches_of_every_kind_answer_as_they_would_alone(
    device: Device, counted: Counted, pipeline: Pipeline
) -> None:
    wanted = [texts(alone(pipeline, options)) for options in CHOICES]
    futures = [(index, ask(device, pipeline, CHOICES[index])) for index in [*range(len(CHOICES))] * 4]
    for index, future in futures:
        assert texts(future.result(60)) == wanted[index]
    assert device.submit(lambda: counted.searches).result(10) == 0


@pytest.mark.parametrize(("short", "then"), [(12, 8), (11, 5)], ids=["a quarter is left", "more are left"])
def test_a_crowd_begins_at_once_and_others_join_when_little_of_it_is_left(
    device: Device, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, short: int, then: int
) -> None:
    head: Any = pipeline.network.head
    searches: list[int] = []
    together = head.step_together

    def counted(calls: Any) -> Any:
        searches.append(len(calls))
        return together(calls)

    monkeypatch.setattr(head, "step_together", counted)
    entered, gate = threading.Event(), threading.Event()

    def hold() -> bool:
        entered.set()
        return gate.wait(30)

    held = device.submit(hold)
    assert entered.wait(30)
    lengths = [2] * short + [8] * (16 - short) + [8] * 4
    futures = [ask(device, pipeline, {"max_length": length, "beam_size": 1}) for length in lengths]
    gate.set()
    assert held.result(30)
    wait(futures, 60)
    assert searches[:3] == [16, 16, then]


def test_nobody_waits_for_the_longest_search(device: Device, pipeline: Pipeline) -> None:
    from models.decoding.decoder import StepCall

    decoder = pipeline.decoder()
    assert decoder is not None
    began, answered = threading.Event(), threading.Event()

    def steps(until: threading.Event) -> Any:
        (search,) = pipeline.searches([Query(pipeline.blank(), pipeline.options())])
        call = next(search)
        assert isinstance(call, StepCall)
        for _ in range(5000):
            yield call
            began.set()
            if until.is_set():
                return True
        return False

    long = searched(device, decoder, lambda: steps(answered), lambda _: None)
    assert began.wait(30)
    late = searched(device, decoder, lambda: steps(began), lambda _: None)
    assert late.result(30)
    answered.set()
    assert long.result(30)


def test_whoever_comes_when_little_is_left_begins_at_once(device: Device, pipeline: Pipeline) -> None:
    from models.decoding.decoder import StepCall

    decoder = pipeline.decoder()
    assert decoder is not None
    begun: list[int] = []
    late: list[Future[Any]] = []
    entered, gate = threading.Event(), threading.Event()

    def hold() -> bool:
        entered.set()
        return gate.wait(30)

    def steps(most: int, watches: bool) -> Any:
        (search,) = pipeline.searches([Query(pipeline.blank(), pipeline.options())])
        call = next(search)
        assert isinstance(call, StepCall)
        for number in range(most):
            yield call
            # The short ones are long gone, and nobody has come since.
            if watches and number == 10:
                late.append(searched(device, decoder, begin, lambda _: None))
            if watches:
                now[0] = number
        return most

    now = [0]

    def begin() -> Any:
        begun.append(now[0])
        return steps(1, watches=False)

    device.submit(hold)
    assert entered.wait(30)
    lengths = [2] * 12 + [20] * 4
    futures = [
        searched(device, decoder, lambda most=most, watches=place == 12: steps(most, watches), lambda _: None)
        for place, most in enumerate(lengths)
    ]
    gate.set()
    assert [future.result(30) for future in futures] == lengths
    assert late[0].result(30) == 1
    assert begun == [10]


def test_hundreds_that_leave_at_random_harm_nobody(device: Device, counted: Counted, pipeline: Pipeline) -> None:
    chance = random.Random(0)
    wanted = texts(alone(pipeline, {}))
    stay: list[Future[Any]] = []
    for _ in range(40):
        stay.append(ask(device, pipeline, {}))
        for gone in [ask(device, pipeline, chance.choice(CHOICES)) for _ in range(5)]:
            if chance.random() < 0.5:
                time.sleep(0.001)
            gone.cancel()
    assert [texts(future.result(60)) for future in stay] == [wanted] * 40
    assert device.submit(lambda: counted.searches).result(10) == 0


def test_a_search_that_cannot_be_stepped_fails_alone(device: Device, pipeline: Pipeline) -> None:
    from models.decoding.decoder import StepCall

    def poisoned() -> Any:
        yield StepCall(torch.zeros(1, 1, dtype=torch.int64), {"h": torch.zeros(1, 1, 3)}, None, list)

    decoder = pipeline.decoder()
    assert decoder is not None
    gate = threading.Event()
    device.submit(lambda: gate.wait(30))
    good = [ask(device, pipeline, {}) for _ in range(3)]
    bad = searched(device, decoder, poisoned, lambda _: None)
    gate.set()
    assert [texts(future.result(60)) for future in good] == [texts(alone(pipeline, {}))] * 3
    assert isinstance(bad.exception(10), Exception)


class Faulty:
    """A watcher that fails the first time that it is told of something."""

    def __init__(self, at: str) -> None:
        self.at, self.told = at, 0

    def batch(self, lane: str, rows: int, padded: int, real: int) -> None:
        self._told("batch")

    def searching(self, rows: int) -> None:
        self._told("searching")

    def _told(self, of: str) -> None:
        self.told += of == self.at
        if of == self.at and self.told == 1:
            raise ValueError("it cannot be counted")


@pytest.mark.parametrize("at", ["batch", "searching"])
def test_what_fails_beside_the_network_fails_its_turn_and_the_thread_goes_on(pipeline: Pipeline, at: str) -> None:
    device = Device("test", observer=Faulty(at))
    failed = ask(device, pipeline, {})
    with pytest.raises(ValueError, match="it cannot be counted"):
        failed.result(30)
    assert texts(ask(device, pipeline, {}).result(30)) == texts(alone(pipeline, {}))
    assert device.submit(lambda: 1).result(10) == 1
    device.close()


def test_too_few_answers_to_a_batch_are_asked_for_one_by_one(device: Device) -> None:
    gate = threading.Event()
    device.submit(lambda: gate.wait(30))
    lane = Lane("test", {"text": 100})
    futures = [
        device.put(Row(lane, lambda items: [item for item in items[:2] if item < 3], item, {"text": 1}))
        for item in range(4)
    ]
    gate.set()
    assert [future.result(10) for future in futures[:3]] == [0, 1, 2]
    with pytest.raises(ValueError, match="0 answers to 1 row"):
        futures[3].result(10)


def test_too_few_answers_to_a_step_are_asked_for_one_by_one(
    device: Device, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    head: Any = pipeline.network.head
    together = head.step_together
    monkeypatch.setattr(head, "step_together", lambda calls: together(calls)[:1])
    gate = threading.Event()
    device.submit(lambda: gate.wait(30))
    futures = [ask(device, pipeline, {"max_length": 3}) for _ in range(2)]
    gate.set()
    assert [texts(future.result(30)) for future in futures] == [texts(alone(pipeline, {"max_length": 3}))] * 2


def test_a_search_that_cannot_be_ended_fails_alone(device: Device, pipeline: Pipeline) -> None:
    from models.decoding.decoder import StepCall

    decoder = pipeline.decoder()
    assert decoder is not None
    began = threading.Event()

    def stubborn() -> Any:
        (search,) = pipeline.searches([Query(pipeline.blank(), pipeline.options())])
        call = next(search)
        assert isinstance(call, StepCall)
        try:
            while True:
                yield call
                began.set()
        finally:
            raise ValueError("it will not end")

    bad = searched(device, decoder, stubborn, lambda _: None)
    assert began.wait(30)
    good = ask(device, pipeline, {})
    bad.cancel()
    assert texts(good.result(30)) == texts(alone(pipeline, {}))


def test_a_thread_that_ends_lets_nobody_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device("test")
    ended = threading.Event()
    # pytest takes what ends a thread for a failure of the test.
    monkeypatch.setattr(threading, "excepthook", lambda _: ended.set())
    monkeypatch.setattr(Batcher, "take", lambda _: 1 / 0)
    before = device.is_alive
    waiting = device.submit(lambda: None)
    with pytest.raises(CancelledError):
        waiting.result(10)
    assert ended.wait(10)
    device._thread.join(10)
    assert (before, device.is_alive) == (True, False)
    with pytest.raises(RuntimeError, match="closed"):
        device.submit(lambda: None)


def test_a_closed_device_cancels_what_waits_and_takes_nothing_more(pipeline: Pipeline) -> None:
    device = Device("test")
    gate = threading.Event()
    device.submit(lambda: gate.wait(30))
    waiting = [ask(device, pipeline, {}), device.submit(lambda: None)]
    device.close()
    gate.set()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(10)
    with pytest.raises(RuntimeError, match="closed"):
        device.submit(lambda: None)


def test_what_comes_while_the_device_closes_is_taken_or_refused_and_never_forgotten() -> None:
    device = Device("test")
    entered, gate, queue = threading.Event(), threading.Event(), device._queue

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(queue, name)

        def put(self, row: Any) -> None:
            if row is not None:
                entered.set()
                assert gate.wait(30)
            queue.put(row)

    device.submit(lambda: setattr(device, "_queue", Slow())).result(10)
    with ThreadPoolExecutor(2) as pool:
        coming = pool.submit(device.submit, lambda: None)
        assert entered.wait(30)
        closing = pool.submit(device.close)
        # It was open when somebody came, so that he is let in first.
        wait([closing], 0.5)
        gate.set()
        closing.result(10)
        assert not wait([coming.result(10)], 10).not_done


def test_events_are_told_as_the_caption_grows(device: Device, pipeline: Pipeline) -> None:
    told: list[dict[str, Any]] = []
    found = ask(device, pipeline, {"beam_size": 1}, told.append).result(30)
    assert [event["index"] for event in told] == list(range(len(told)))
    assert (told[-1]["text"] if told else "") == texts(found)[0]


def test_only_the_devices_thread_computes_on_several_threads() -> None:
    script = (
        "import torch; from concurrent.futures import ThreadPoolExecutor as Pool;"
        "from app.engine.device import Device, compute;"
        "media = Pool(1, 'media', compute, (1,)); late = Pool(1, 'late', compute, (1,));"
        "count = lambda: (torch.ones(1000, 1000).add(1), torch.get_num_threads())[1];"
        "alone = media.submit(count).result(); device = Device('d'); own = device.submit(count).result();"
        "print(alone, own, late.submit(count).result(), media.submit(count).result(), device.submit(count).result(),"
        "Device('e', 3).submit(count).result())"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert told.stdout.split() == ["1", "2", "1", "1", "2", "3"]


@pytest.mark.skipif(sys.platform != "linux", reason="no thread has a niceness of its own")
def test_threads_that_compute_let_the_event_loop_go_first_and_no_more_so_the_second_time(device: Device) -> None:
    def niceness() -> int:
        compute(1)
        return os.getpriority(os.PRIO_PROCESS, 0)

    with ThreadPoolExecutor(1, "media", compute, (1,)) as media:
        found = {media.submit(niceness).result(), media.submit(niceness).result(), device.submit(niceness).result()}
    own = os.getpriority(os.PRIO_PROCESS, os.getpid())
    assert found == {min(own + 5, 19)}


def test_networks_are_packed_for_as_many_threads_as_run_them(tmp_path: Path) -> None:
    tiny_captioner(tmp_path / "captioner")
    script = (
        "import sys, torch; from concurrent.futures import ThreadPoolExecutor as Pool; from pathlib import Path;"
        "from threading import current_thread; from app.engine.device import compute;"
        "from app.engine.registry import Registry; from models.pipeline import Pipeline;"
        "seen = []; real = Pipeline.load; note = lambda: seen.append((torch.get_num_threads(), current_thread()));"
        "Pipeline.load = lambda *given: (note(), real(*given))[1];"
        "registry = Registry([Path(sys.argv[1])], 'cpu', [], 'auto');"
        "pool = Pool(1, 'pool', compute, (1,)); pool.submit(registry.load_all, lambda _: None).result();"
        "[(threads, thread)] = seen; count = pool.submit(torch.get_num_threads).result();"
        "print(threads, thread.is_alive(), count, *registry.pipelines, file=sys.stderr)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
    )
    assert told.stderr.splitlines()[-1].split() == ["2", "False", "1", "captioner"]


def test_what_can_wait_goes_behind_all_that_others_want_for_as_long_as_it_is_told_to(device: Device) -> None:
    order, may = list[str](), threading.Event()

    def wanted() -> None:
        assert may.wait(30)
        time.sleep(0.05)
        order.append("wanted")

    running = [device.submit(wanted) for _ in range(3)]
    with ThreadPoolExecutor(1) as pool:
        aside = pool.submit(device.submit_aside, lambda: order.append("aside"), 30)
        may.set()
        aside.result().result()
    assert order == ["wanted"] * 3 + ["aside"]
    wait(running)
    may.clear()
    running = [device.submit(wanted) for _ in range(3)]
    late = device.submit_aside(lambda: order.append("late"), 0.05)
    assert not any(each.done() for each in running)
    may.set()
    late.result()


def test_what_can_wait_does_not_wait_for_a_device_that_is_closed(device: Device) -> None:
    may = threading.Event()
    device.submit(lambda: may.wait(30))
    with ThreadPoolExecutor(1) as pool:
        aside = pool.submit(device.submit_aside, lambda: None, 60)
        device.close()
        with pytest.raises(RuntimeError, match="closed"):
            aside.result(10)
    may.set()
