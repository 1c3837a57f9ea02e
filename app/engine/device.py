"""The thread of a device: whole calls in their order, and between two of them one step of every search under way.

A search joins when its turn comes, steps together with all others over the same decoder, and leaves as soon as it is
done or given up. So a short caption never waits for a long one, and nobody waits for a batch to fill.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from models.decoding.decoder import SharedDecoder, StepAnswer, StepBatch, StepCall
    from models.tasks.streaming import Event, Told

T = TypeVar("T")


@dataclass(slots=True)
class _Search:
    """A search under way; ``call`` is the step that it waits for."""

    decoder: "SharedDecoder[Any]"
    begin: "Callable[[], Told[Any]]"
    tell: "Callable[[Event], object]"
    future: "Future[Any]" = field(default_factory=Future)
    steps: "Told[Any] | None" = None
    call: "StepCall | None" = None


def use_threads(count: int) -> None:
    """Let the calling thread, and it alone, run torch's operations on ``count`` threads; 0 is torch's own choice.

    OpenMP gives each thread that computes in parallel a team of its own. As soon as the teams together have more
    threads than there are cores, they wait by sleeping, and a network takes twice as long. So one thread has a team,
    that of the device, and all others compute alone.
    """
    import torch

    # Asking first makes torch initialize this thread, which would otherwise undo the setting later.
    now = torch.get_num_threads()
    # A thread that comes later is told what another one set, so torch's choice is what the first was told.
    own = _choice.setdefault("threads", now)
    torch.set_num_threads(count or own)


_choice: dict[str, int] = {}


class Device:
    """Runs networks; every method may be called from any thread."""

    def __init__(self, name: str, threads: int = 0) -> None:
        """A thread called ``name`` whose network steps run on ``threads`` threads; 0 leaves the choice to torch."""
        self._threads = threads
        self._queue: queue.SimpleQueue[_Search | tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._under_way: list[_Search] = []
        self._batches: dict[int, StepBatch] = {}
        self._closed = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """Run ``work`` when its turn comes; a future that is cancelled before that never runs."""
        future: Future[T] = Future()
        self._put((future, work))
        return future

    def search(
        self, decoder: "SharedDecoder[Any]", begin: "Callable[[], Told[T]]", tell: "Callable[[Event], object]"
    ) -> "Future[T]":
        """Run a search over ``decoder`` with shared steps; ``tell`` gets its events, on the device's thread.

        A future that is cancelled takes its search out of the batch before the next step.
        """
        search = _Search(decoder, begin, tell)
        self._put(search)
        return search.future

    @property
    def under_way(self) -> int:
        """How many searches are in the running batch."""
        return len(self._under_way)

    def close(self) -> None:
        """Cancel what has not begun, give up what is under way, and let the thread end."""
        self._closed = True
        self._queue.put(None)

    def _put(self, item: Any) -> None:
        if self._closed:
            raise RuntimeError("the device is closed")
        self._queue.put(item)

    def _run(self) -> None:
        use_threads(self._threads)
        while not self._closed:
            try:
                # With nothing under way there is nothing to do but wait.
                item = self._queue.get(block=not self._under_way)
            except queue.Empty:
                item = None
            if isinstance(item, _Search):
                self._join(item)
            elif item is not None:
                _call(*item)
            self._step()
        for search in self._under_way:
            _end(search)
        while not self._queue.empty():
            if (item := self._queue.get()) is not None:
                (item.future if isinstance(item, _Search) else item[0]).cancel()

    def _join(self, search: _Search) -> None:
        if search.future.cancelled():
            return
        try:
            search.steps = search.begin()
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            _fail(search.future, error)
            return
        if self._advance(search, None):
            self._under_way.append(search)

    def _step(self) -> None:
        """One step of every search, those over the same decoder together."""
        for search in self._under_way:
            if search.future.cancelled():
                _end(search)
        groups: dict[int, list[_Search]] = {}
        for search in self._under_way:
            if not search.future.cancelled():
                groups.setdefault(id(search.decoder), []).append(search)
        self._batches = {key: self._batches.get(key) or _batch(group[0].decoder) for key, group in groups.items()}
        self._under_way = [search for key, group in groups.items() for search in self._together(key, group)]

    def _together(self, key: int, group: list[_Search]) -> list[_Search]:
        """Step a group; returns those that go on."""
        import torch

        calls = [search.call for search in group if search.call is not None]
        try:
            with torch.inference_mode():
                answers = self._batches[key].step(calls)
        except Exception as error:  # noqa: BLE001 - whoever waits for it gets it
            if len(group) == 1:
                _end(group[0], error)
                return []
            # One of them cannot be stepped: each by itself, so that it harms none of the others.
            return [search for alone in group for search in self._together(key, [alone])]
        return [search for search, answer in zip(group, answers, strict=True) if self._advance(search, answer)]

    @staticmethod
    def _advance(search: _Search, answer: "StepAnswer | None") -> bool:
        """Send a search its answer, tell its events, and note the step that it needs next; False if it is over."""
        from models.decoding.decoder import StepCall

        assert search.steps is not None
        try:
            part = search.steps.send(answer)
            while not isinstance(part, StepCall):
                search.tell(part)
                if search.future.cancelled():
                    search.steps.close()
                    return False
                part = search.steps.send(None)
        except StopIteration as stop:
            if search.future.set_running_or_notify_cancel():
                search.future.set_result(stop.value)
            return False
        except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
            _fail(search.future, error)
            return False
        search.call = part
        return True


def _batch(decoder: "SharedDecoder[Any]") -> "StepBatch":
    from models.decoding.decoder import StepBatch

    return StepBatch(decoder)


def _call(future: "Future[Any]", work: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
        future.set_exception(error)
    else:
        future.set_result(result)


def _end(search: _Search, error: BaseException | None = None) -> None:
    if search.steps is not None:
        search.steps.close()
    if error is None:
        search.future.cancel()
    else:
        _fail(search.future, error)


def _fail(future: "Future[Any]", error: BaseException) -> None:
    if future.set_running_or_notify_cancel():
        future.set_exception(error)
