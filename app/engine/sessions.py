"""All streaming sessions of a process, and their steps: whoever has something to step shares the next one.

A checkpoint's sessions have a lane. While its last step runs, chunks gather; the next step takes along every session
that has a whole tick by then. So steps are small while little happens, and large when much does.
"""

import asyncio
import base64
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.engine.device import Device
from app.engine.live import DRAINING, NORMAL, POLICY, Bounds, Event, Live, error_event
from app.engine.service import Service
from app.errors import NoSuchSession, OutOfBounds, ServiceError, Unavailable, WrongFields, from_validation
from app.telemetry import log
from models.streaming.errors import BadStart, BadState, Busy, CannotStream

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.streaming.checkpoint import Streams
    from models.streaming.sealing import Sealed, Sealer
    from models.streaming.session import Session, Snapshot

_SWEEP_SECONDS = 1.0
_DRAIN_SECONDS = 5.0
_RETRY, _RETRY_FULL = 2, 10
_START_BYTES = 1024
"""What a first message takes up besides a state."""


class _Lane:
    """The sessions of one checkpoint."""

    def __init__(self, pipeline: "Pipeline", streams: "Streams", device: Device, sealer: "Sealer") -> None:
        self.pipeline, self.streams, self.device, self.sealer = pipeline, streams, device, sealer
        self.lives = 0
        self._ready: dict[Live, None] = {}
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
            if live.over is not None or live.stalled:
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
        works = [work for _, work, _, _ in taken if work is not None]
        exports = [(live.session, mark) for live, _, mark, _ in taken if mark is not None and mark.reason == "export"]

        def run() -> tuple[list[list[Event]], list["Snapshot"]]:
            events = self.streams.step(works) if works else []
            return events, [session.snapshot(mark) for session, mark in exports]

        try:
            answers, snapshots = await asyncio.wrap_future(self.device.submit(run))
        except Exception as error:  # noqa: BLE001 - the lane must go on; each client is told
            log.exception("unexpected error in a step of streams", exc_info=error)
            for live, *_ in taken:
                live.finish(POLICY, error_event(ServiceError("The server failed on this session.", "Start a new one.")))
            return
        answered, saved = iter(answers), iter(snapshots)
        for live, work, mark, consumed in taken:
            for event in next(answered) if work is not None else ():
                if event["type"] == "error":
                    live.finish(POLICY, error_event(ServiceError(event["detail"], event["remedy"])))
                    break
                live.say(event)
            live.answered(consumed)
            if mark is None:
                continue
            if mark.reason == "export":
                mark.note(self.export(live, next(saved)))
            elif mark.reason == "end":
                live.finish(NORMAL, ended(live, "end"))

    def export(self, live: Live, snapshot: "Snapshot") -> bytes | None:
        """A session's state, signed; None, once its client is told, if it is too large."""
        facts = {
            "numbers": snapshot.numbers,
            "next_sequence": snapshot.acknowledged + 1,
            "said": live.said,
            "start": live.start,
        }
        try:
            return self.sealer.seal(snapshot.tensors, facts)
        except BadState as error:
            remedy = "Start a session that remembers less, or let FUSIONRNN_STREAM_CHUNK_BYTES be larger."
            live.say(error_event(OutOfBounds(str(error), remedy, limit=f"{self.sealer.most_bytes} bytes")))
            return None


class Sessions:
    """Opens, finds, watches and ends sessions."""

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = service.settings
        self.bounds = Bounds(
            settings.stream_chunk_bytes,
            settings.stream_window_bytes,
            settings.stream_events,
            settings.stream_idle_seconds,
            settings.stream_total_seconds,
        )
        self.start_bytes = 2 * settings.stream_chunk_bytes + _START_BYTES
        """Of a first message, which may hold a state; the server's limit of a message is above it."""
        self.lives: dict[str, Live] = {}
        self.draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._opening = 0
        self._lanes: dict[Pipeline, _Lane] = {}
        self._lane_of: dict[str, _Lane] = {}
        self._watch: asyncio.Task[None] | None = None
        self._key = settings.stream_key.get_secret_value().encode() if settings.stream_key else None

    async def start(
        self,
        pipeline: "Pipeline",
        modalities: Mapping[str, Any],
        options: Mapping[str, Any],
        state: bytes | None = None,
        received: int | None = None,
    ) -> Live:
        """A new session, or one that goes on from an exported ``state``, whose client has the finals to ``received``.

        Raises:
            ServiceError: it cannot be; the class says whether the client, or the server's load, is why.
        """
        if self.draining:
            raise Unavailable("The server is shutting down.", _RETRY)
        if len(self.lives) + self._opening >= self.service.settings.stream_sessions:
            raise Unavailable(f"{len(self.lives)} sessions are open, as many as may be.", _RETRY_FULL)
        lane = self._lane(pipeline)
        lane.lives += 1
        self._opening += 1
        try:
            opened = None if state is None else lane.sealer.open(state)
            start = {"modalities": modalities, "options": options} if opened is None else opened.facts["start"]
            session = await self._open(lane, start, opened)
            live = Live(session, start, self.bounds, lane.wake, self.service.runner.offload)
            if opened is not None:
                live.next_sequence = opened.facts["next_sequence"]
                live.skip_to(opened.facts["said"], opened.facts["said"] if received is None else received)
        except BaseException as error:
            self._leave(lane)
            if isinstance(error, Busy):
                raise Unavailable(str(error), _RETRY_FULL) from error
            if isinstance(error, BadState):
                raise WrongFields(str(error), "Start a new session.", field="state") from error
            if isinstance(error, BadStart):
                raise WrongFields(str(error), error.remedy, field=error.field) from error
            if isinstance(error, ValidationError):
                known = list(lane.streams.options.model_fields)
                raise from_validation(error, known) from error
            raise
        finally:
            self._opening -= 1
        self.lives[live.id] = live
        self._empty.clear()
        self._lane_of[live.id] = lane
        if self._watch is None:
            self._watch = asyncio.create_task(self._sweep())
        return live

    def pipeline(self, live: Live) -> "Pipeline":
        """The checkpoint that a session was started with, which may be served no more."""
        return self._lane_of[live.id].pipeline

    def advice(self, live: Live) -> Event:
        """How much to send at once."""
        return self._lane_of[live.id].streams.advice(live.start["modalities"])

    def find(self, name: str) -> Live:
        """The session of this id.

        Raises:
            NoSuchSession: there is none, or none any more.
        """
        live = self.lives.get(name)
        if live is None or live.over is not None:
            raise NoSuchSession(
                "There is no such session, or its time to come back is over.",
                "Start a new one, or go on from an exported state.",
            )
        return live

    def remove(self, live: Live) -> None:
        """Forget a session that is over; its row is free."""
        if self.lives.pop(live.id, None) is None:
            return
        live.finish(NORMAL)
        lane = self._lane_of.pop(live.id)
        lane.forget(live)
        with suppress(RuntimeError):
            lane.device.submit(live.session.close)
        for reader in live.session.readers.values():
            reader.close()
        self._leave(lane)
        if not self.lives:
            self._empty.set()

    async def drain(self) -> None:
        """Give every client its state, and end all sessions: their clients can go on elsewhere."""
        self.draining = True
        for live in list(self.lives.values()):
            if live.detached is None:
                self._end_with_state(live, DRAINING, "draining")
            else:
                self.remove(live)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._empty.wait()
        for live in list(self.lives.values()):
            self.remove(live)
        if self._watch is not None:
            self._watch.cancel()

    async def _open(self, lane: _Lane, start: Mapping[str, Any], opened: "Sealed | None") -> "Session":
        """On threads of their own: filters are read where media are decoded, rows belong to the device."""
        streams = lane.streams
        options = streams.options.model_validate(start["options"])
        readers = await self.service.runner.offload(lambda: streams.readers(start["modalities"]))

        def work() -> "Session":
            from models.streaming.session import Snapshot

            session = streams.session(options, readers)
            if opened is not None:
                try:
                    snapshot = Snapshot(opened.tensors, opened.facts["numbers"], opened.facts["next_sequence"] - 1)
                    session.resume(snapshot)
                except BaseException:
                    session.close()
                    raise
            return session

        return await asyncio.wrap_future(lane.device.submit(work))

    def _lane(self, pipeline: "Pipeline") -> _Lane:
        from models.streaming.checkpoint import streams_of
        from models.streaming.sealing import Sealer

        found = self._lanes.get(pipeline)
        if found is None:
            try:
                streams = streams_of(pipeline)
            except CannotStream as error:
                remedy = "Post the whole input to /predict, or use a model whose card says streaming: true."
                raise WrongFields(f"'{pipeline.config.name}' cannot stream: {error}.", remedy, field="model") from error
            most = (self.start_bytes - _START_BYTES) // 4 * 3  # In base64, in a first message.
            sealer = Sealer(self._signing_key(), pipeline.digest, self.service.settings.stream_state_seconds, most)
            found = _Lane(pipeline, streams, self.service.runner.device(pipeline.device), sealer)
            self._lanes[pipeline] = found
        return found

    def _leave(self, lane: _Lane) -> None:
        """A session less; a lane without any is taken down, so that an unloaded checkpoint can go."""
        lane.lives -= 1
        if not lane.lives:
            lane.stop()
            self._lanes = {key: other for key, other in self._lanes.items() if other is not lane}

    async def _sweep(self) -> None:
        """End what is overdue."""
        while self.lives:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for lane in self._lanes.values():
                self.service.swaps.use(lane.pipeline.config.name)
            for live in list(self.lives.values()):
                if (overdue := live.overdue(now)) is None:
                    continue
                code, reason = overdue
                if live.connection is None:
                    self.remove(live)
                elif reason == "slow":
                    live.finish(code)
                    live.connection.hang_up(code)
                else:
                    self._end_with_state(live, code, reason)
        self._watch = None

    @staticmethod
    def _end_with_state(live: Live, code: int, reason: str) -> None:
        live.ending = True
        live.export(lambda state: live.finish(code, ended(live, reason, state)))

    def _signing_key(self) -> bytes:
        if self._key is None:
            log.warning("FUSIONRNN_STREAM_KEY is not set: exported sessions can be resumed by this process only")
            self._key = secrets.token_bytes(32)
        return self._key


def ended(live: Live, reason: str, state: bytes | None = None) -> Event:
    """The last event of a session."""
    event = {"type": "session.ended", "reason": reason, "next_sequence": live.session.acknowledged + 1}
    return event if state is None else event | exported(live, state) | {"type": "session.ended"}


def exported(live: Live, state: bytes) -> Event:
    """A session's state, for its client."""
    return {
        "type": "session.exported",
        "state": base64.b64encode(state).decode(),
        "next_sequence": live.session.acknowledged + 1,
        "event": live.said,
    }
