"""The thread of a device: one batch of whole calls, then one step of every search under way, and so on.

A search steps together with all others over the same decoder, and leaves as soon as it is done or given up. Others join
between two steps, as ``Device._may_join`` says: nobody waits for a batch to fill, nor for its longest search.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from app.engine.batcher import Batcher, Lane, Row, cost
from app.log import log

if TYPE_CHECKING:
    from models.decoding.decoder import SharedDecoder, StepAnswer, StepCall
    from models.tasks.streaming import Event, StreamSearch

T = TypeVar("T")
_ALONE = Lane("other")
_CROWD = 16
"""Searches under way, from which on nobody joins."""

_LEFT = 0.25
"""Of the searches after the last join, the share that may be left when others join."""

_MOST_STEPS = 24
"""From one join to the next, where somebody waits: most captions are shorter."""

_GIVES_WAY = 5
"""Niceness beyond the event loop's: a third of its share of a core that both want."""

_LOOKS = 0.01
"""Seconds after which who waits for an idle device looks again."""


@dataclass(eq=False, slots=True, kw_only=True)
class Search(Row):
    """A row whose answer is a search; ``call`` is the step that it waits for, ``tell`` gets its events."""

    decoder: "SharedDecoder[Any]"
    tell: "Callable[[Event], object]"
    steps_left: "StreamSearch[Any] | None" = None
    call: "StepCall | None" = None


class DeviceObserver(Protocol):
    """Who wants to know what a device does; called on its thread."""

    def batch(self, lane: str, rows: int, padded: int, real: int) -> None:
        """A batch begins."""

    def searching(self, rows: int) -> None:
        """This many searches are under way."""


class _NoObserver:
    def batch(self, lane: str, rows: int, padded: int, real: int) -> None: ...

    def searching(self, rows: int) -> None: ...


def compute(threads: int) -> None:
    """Make the calling thread one that computes, with torch on so many ``threads``; 0 is torch's own choice.

    It lets the event loop go first where both want the same core: a request takes little of the loop, and the sooner it
    is with the others that wait for the network, the larger is the batch that they share.

    OpenMP gives each thread that computes in parallel a team of its own. As soon as the teams together have more
    threads than there are cores, they wait by sleeping, and a network takes twice as long. So one thread has a team,
    that of the device, and all others compute alone.
    """
    import torch

    # Asking first makes torch initialize this thread, which would otherwise undo the setting later.
    now = torch.get_num_threads()
    # A thread that comes later is told what another one set, so torch's choice is what the first was told.
    own = _choice.setdefault("threads", now)
    torch.set_num_threads(threads or own)
    if sys.platform == "linux":  # where each thread has a niceness of its own, and the process its first one's
        niceness = os.getpriority(os.PRIO_PROCESS, os.getpid()) + _GIVES_WAY
        with suppress(OSError):  # a sandbox may forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


_choice: dict[str, int] = {}


def in_own_thread(threads: int, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, from a thread that computes on ``threads`` threads and ends with it.

    So that weights are packed for as many threads as will read them: a network that oneDNN packed in a thread that may
    use one runs on one thread's time, whatever runs it. The team ends with its thread, and later takes no core from the
    device.
    """
    with ThreadPoolExecutor(1, "load", compute, (threads,)) as own:
        return own.submit(call).result()


class Device:
    """Runs networks; every method may be called from any thread."""

    def __init__(self, name: str, threads: int = 0, delay: float = 0.0, observer: DeviceObserver | None = None) -> None:
        """A thread called ``name`` whose network steps run on ``threads`` threads; 0 leaves the choice to torch.

        ``delay``: seconds that a row may wait for others to share its batch, although the device is free.
        """
        self._threads = threads
        self._observer: DeviceObserver = observer or _NoObserver()
        self._queue: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._calls, self._searches = Batcher(delay), Batcher(delay)
        self._under_way: list[Search] = []
        self._joined = self._since_join = 0
        self._closed = self._is_idle = False
        self._door = threading.Lock()
        """Between asking whether it is closed, and acting on it: what is put is taken out by the thread, or refused."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, row: Row) -> "Future[Any]":
        """Answer a row when its turn comes, together with others of its lane; its future, which may be cancelled.

        One that is cancelled before its turn never runs. A ``Search`` takes its steps with others then, and one that
        is cancelled leaves the batch before the next step.
        """
        with self._door:
            if self._closed:
                raise RuntimeError("the device is closed")
            self._queue.put(row)
        return row.future

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Run ``work`` when its turn comes."""
        return self.put(Row(_ALONE, lambda works: [works[0]()], work))

    def submit_aside(self, work: Callable[[], T], patience: float) -> "Future[T]":
        """Run ``work`` when there is nothing else to do, or ``patience`` seconds have passed; waits for that here."""
        until = time.monotonic() + patience
        while not (self._closed or (self._is_idle and self._queue.empty())) and time.monotonic() < until:
            time.sleep(_LOOKS)
        return self.submit(work)

    @property
    def is_alive(self) -> bool:
        """Whether its thread still takes turns."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Cancel what has not begun, give up what is under way, and let the thread end."""
        with self._door:
            self._closed = True
            self._queue.put(None)

    def _run(self) -> None:
        try:
            compute(self._threads)
            while not self._closed:
                self._receive()
                # A turn keeps nothing: while the thread waits, a checkpoint that was unloaded must be free to go.
                self._serve()
                self._step()
        finally:
            # Also where the thread ends by an error: nobody waits for it then, and nobody else comes.
            self.close()
            self._give_up()

    def _give_up(self) -> None:
        for search in self._under_way:
            _end(search)
        while not self._queue.empty():
            if (row := self._queue.get()) is not None:
                row.future.cancel()
        for row in [*self._calls.rows, *self._searches.rows]:
            row.future.cancel()

    def _receive(self) -> None:
        """Take in what has come; with nothing to do, wait for it."""
        idle = not self._under_way
        waits = [batcher.patience() for batcher in (self._calls, self._searches) if batcher.rows]
        patience = min(waits, default=None)
        self._is_idle = idle and patience is None
        with suppress(queue.Empty):
            row = self._queue.get(block=idle and patience != 0.0, timeout=patience)
            self._is_idle = False
            while row is not None:
                (self._searches if isinstance(row, Search) else self._calls).put(row)
                row = self._queue.get_nowait()

    def _serve(self) -> None:
        """Answer a batch of whole calls, and let searches begin."""
        self._begin(self._calls.take())
        if self._searches.rows and self._may_join():
            joined = False
            while len(self._under_way) < _CROWD and self._begin(self._searches.take()):
                joined = True
            # Those that still wait for others to share their batch keep their turn.
            if joined:
                self._joined, self._since_join = len(self._under_way), 0

    def _may_join(self) -> bool:
        """Whether searches that wait may begin: once few are left of those that were under way after the last join.

        To begin costs as much as many steps, and those under way wait meanwhile. So those that came first are finished
        first, as long as their steps are still shared by enough of them.
        """
        few = len(self._under_way) <= _LEFT * self._joined
        return few or self._since_join >= _MOST_STEPS

    def _begin(self, rows: list[Row]) -> list[Row]:
        # A search can be cancelled up to its end, so its future never runs.
        rows = [row for row in rows if isinstance(row, Search) or row.future.set_running_or_notify_cancel()]
        if rows:
            with _failing(rows):
                self._observer.batch(rows[0].lane.name, len(rows), *cost(rows))
                self._answer(rows)
        return rows

    def _answer(self, rows: list[Row]) -> None:
        try:
            with _shared(rows):
                answers = _one_each(rows, rows[0].run([row.item for row in rows]))
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            if len(rows) == 1:
                _fail(rows[0], error)
            else:
                # One of them cannot be answered: each by itself, so that it harms none of the others.
                for row in rows:
                    self._answer([row])
            return
        for row, answer in zip(rows, answers, strict=True):
            if not isinstance(row, Search):
                row.future.set_result(answer)
            elif not row.future.cancelled():
                row.steps_left = answer
                with _shared([row]):
                    goes_on = self._advance(row, None)
                if goes_on:
                    self._under_way.append(row)

    def _step(self) -> None:
        """One step of every search, those over the same decoder together."""
        if not self._under_way:
            return
        self._since_join += 1
        searches, self._under_way = self._under_way, []
        with _failing(searches):
            groups: dict[int, list[Search]] = {}
            for search in searches:
                # Cancelled, or failed as it began.
                if search.future.done():
                    _end(search)
                else:
                    groups.setdefault(id(search.decoder), []).append(search)
            self._under_way = [search for group in groups.values() for search in self._together(group)]
            self._observer.searching(len(self._under_way))

    def _together(self, group: list[Search]) -> list[Search]:
        """Step a group; returns those that go on."""
        import torch

        calls = [search.call for search in group if search.call is not None]
        try:
            with torch.inference_mode(), _shared(group):
                answers = _one_each(group, group[0].decoder.step_together(calls))
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            if len(group) == 1:
                _end(group[0], error)
                return []
            # One of them cannot be stepped: each by itself, so that it harms none of the others.
            return [search for alone in group for search in self._together([alone])]
        with _shared(group):
            return [search for search, answer in zip(group, answers, strict=True) if self._advance(search, answer)]

    @staticmethod
    def _advance(search: Search, answer: "StepAnswer | None") -> bool:
        """Send a search its answer, tell its events, and note the step that it needs next; False if it is over."""
        from models.decoding.decoder import StepCall

        assert search.steps_left is not None
        try:
            part = search.steps_left.send(answer)
            while not isinstance(part, StepCall):
                search.tell(part)
                if search.future.cancelled():
                    search.steps_left.close()
                    return False
                part = search.steps_left.send(None)
        except StopIteration as stop:
            if search.future.set_running_or_notify_cancel():
                search.future.set_result(stop.value)
            return False
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            _fail(search, error)
            return False
        search.call = part
        return True


@contextmanager
def _shared(rows: Sequence[Row]) -> Iterator[None]:
    """Charge each row its share of the time that the block takes."""
    started = time.perf_counter()
    try:
        yield
    finally:
        share = (time.perf_counter() - started) / len(rows)
        for row in rows:
            row.began = row.began or started
            row.spent += share


@contextmanager
def _failing(rows: Sequence[Row]) -> Iterator[None]:
    """Let rows fail by what nobody expected, and the thread go on: all others would wait for it in vain."""
    try:
        yield
    except BaseException as error:  # noqa: BLE001 - whoever waits for a row gets it
        log.exception("unexpected error on a device", exc_info=error)
        for row in rows:
            _fail(row, error)


def _one_each(rows: Sequence[Row], answers: Sequence[T]) -> Sequence[T]:
    if len(answers) != len(rows):
        raise ValueError(f"{len(answers)} answers to {len(rows)} rows")
    return answers


def _end(search: Search, error: BaseException | None = None) -> None:
    if search.steps_left is not None:
        with _failing([search]):
            search.steps_left.close()
    if error is None:
        search.future.cancel()
    else:
        _fail(search, error)


def _fail(row: Row, error: BaseException) -> None:
    future = row.future
    if not future.done() and (future.running() or future.set_running_or_notify_cancel()):
        future.set_exception(error)
