"""Steps the streaming sessions of one checkpoint together: whichever have something that came."""

import asyncio
import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from app.engine.connection import NORMAL, POLICY, Event, error_event
from app.engine.device import Device
from app.engine.live import Live
from app.errors import OutOfBounds, ServiceError
from app.log import log
from models.streaming.errors import BadState

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.streaming.checkpoint import Streams
    from models.streaming.sealing import Sealer
    from models.streaming.session import Session, Snapshot


class Stepper:
    """The sessions of one checkpoint."""

    def __init__(self, pipeline: "Pipeline", streams: "Streams", device: Device, sealer: "Sealer") -> None:
        self.pipeline, self.streams, self.device, self.sealer = pipeline, streams, device, sealer
        self.lives = 0
        self._ready: dict[Live, None] = {}
        self._sealing: dict[Live, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def wake(self, live: Live) -> None:
        """A session has something to step, or takes events again."""
        self._ready[live] = None
        self._wake.set()

    def forget(self, live: Live) -> None:
        """A session is over."""
        self._ready.pop(live, None)

    def stop(self) -> None:
        """No session is left."""
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while taken := self._collect():
                await self._step(taken)

    def _collect(self) -> list[tuple[Live, Any, Any, int]]:
        """Each ready session's work, the mark that it reaches, and what it cost; others are ready no more."""
        taken = []
        for live in list(self._ready):
            with alone(live):
                if live.over is not None or live.stalled or live in self._sealing:
                    del self._ready[live]
                    continue
                waiting = live.session.waiting
                work, mark = live.session.next()
                consumed = waiting - live.session.waiting
                if work is None and mark is None:
                    del self._ready[live]
                    live.answered(consumed)
                    live.starved()
                else:
                    taken.append((live, work, mark, consumed))
        return taken

    async def _step(self, taken: list[tuple[Live, Any, Any, int]]) -> None:
        working = [live for live, work, _, _ in taken if work is not None]
        works = [work for _, work, _, _ in taken if work is not None]
        exports = [
            (live, live.session, mark)
            for live, _, mark, _ in taken
            # Those that a client asked for that has left are for nobody.
            if mark and mark.reason == "export" and (live.connection is not None or live.ending)
        ]

        def run() -> tuple[dict[Live, list[Event]], dict[Live, "Snapshot | Exception"]]:
            events = self.streams.step(works) if works else []
            snapshots = {live: _snapshot(session, mark) for live, session, mark in exports}
            return dict(zip(working, events, strict=True)), snapshots

        try:
            answers, snapshots = await asyncio.wrap_future(self.device.submit(run))
        except Exception as error:  # noqa: BLE001 - the others must go on; each client is told
            log.exception("unexpected error in a step of streams", exc_info=error)
            for live, *_ in taken:
                live.finish(POLICY, _failed())
            return
        for live, _, mark, consumed in taken:
            with alone(live):
                for event in answers.get(live, ()):
                    if event["type"] == "error":
                        live.finish(POLICY, error_event(ServiceError(event["detail"], event["remedy"])))
                        break
                    live.say(event)
                live.answered(consumed)
                if live in snapshots:
                    self._export(live, snapshots[live], mark.note)
                elif mark is not None and mark.reason == "end":
                    live.finish(NORMAL, ended(live, "end"))

    def _export(self, live: Live, snapshot: "Snapshot | Exception", then: Callable[[str | None], None]) -> None:
        """Call ``then`` with a session's state, signed, in base64; None, once its client is told: it is too large.

        That is packed beside the event loop: it takes as long as many steps. Until then the session is asked for
        nothing more, so that it says nothing that comes after its state before it.
        """
        if isinstance(snapshot, Exception):
            raise snapshot
        facts = {
            "numbers": snapshot.numbers,
            "next_sequence": snapshot.acknowledged + 1,
            "said": live.said,
            "overtaken": live.overtaken,
            "start": live.start,
        }

        def work() -> str:
            return base64.b64encode(self.sealer.seal(snapshot.tensors, facts)).decode()

        sealing = live.offload(work)

        async def seal() -> None:
            with alone(live):
                try:
                    state = await sealing
                    if live.over is None:
                        then(state)
                except BadState as error:
                    remedy = "Start a session that remembers less, or let FUSIONRNN_STREAM_CHUNK_BYTES be larger."
                    limit = f"{self.sealer.most_bytes} bytes"
                    live.say(error_event(OutOfBounds(str(error), remedy, limit=limit)))
                    then(None)
                finally:
                    del self._sealing[live]
                    self.wake(live)

        self._sealing[live] = asyncio.create_task(seal())


@contextmanager
def alone(live: Live) -> Iterator[None]:
    """Let what nobody expected end one session, and cost no other."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - its client is told
        log.exception("unexpected error in a session", exc_info=error)
        live.finish(POLICY, _failed())


def _failed() -> Event:
    return error_event(ServiceError("The server failed on this session.", "Start a new one."))


def _snapshot(session: "Session", mark: Any) -> "Snapshot | Exception":
    try:
        return session.snapshot(mark)
    except Exception as error:  # noqa: BLE001 - raised where the session is told
        return error


def ended(live: Live, reason: str, state: str | None = None) -> Event:
    """The last event of a session."""
    event = {"type": "session.ended", "reason": reason, "next_sequence": live.session.acknowledged + 1}
    return event if state is None else event | exported(live, state) | {"type": "session.ended"}


def exported(live: Live, state: str) -> Event:
    """A session's state, in base64, for its client."""
    return {
        "type": "session.exported",
        "state": state,
        "next_sequence": live.session.acknowledged + 1,
        "event": live.said,
    }
