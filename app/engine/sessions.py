"""All streaming sessions of a process, and their steps: whoever has something to step shares the next one.

A checkpoint's sessions have a stepper. While its last step runs, chunks gather; the next step takes along every session
that has a whole tick by then. So steps are small while little happens, and large when much does.
"""

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from app.engine.bounds import DRAIN_SECONDS, SessionBounds
from app.engine.connection import DRAINING, NORMAL, Event
from app.engine.live import Live
from app.engine.service import Service
from app.engine.stepper import Stepper, alone, ended
from app.errors import NoSuchSession, Unavailable, WrongFields, from_validation
from app.log import log
from models.streaming.errors import BadStart, BadState, Busy, CannotStream

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.streaming.sealing import Sealed
    from models.streaming.session import Session, Snapshot

_SWEEP_SECONDS = 1.0
_RETRY_FULL = 10
_MOST_ENDED = 256
_START_BYTES = 1024
"""What a first message takes up besides a state."""
_MISFIT = "The state is signed, but does not fit: another version of the server made it."
_SHOWN = 8
"""Characters of a session's id in the log: whoever knows all of it can take the session up."""


class StreamRequest(BaseModel):
    """What a client asked for, as JSON can hold it."""

    modalities: dict[str, Any]
    options: dict[str, Any]


class Facts(BaseModel):
    """What a state says besides its tensors; ``overtaken``: the finals that were held back when it was made."""

    numbers: list[float]
    next_sequence: int
    said: int
    overtaken: list[Event]
    start: StreamRequest


class Sessions:
    """Opens, finds, watches and ends sessions."""

    def __init__(self, service: Service) -> None:
        self.service = service
        settings = service.settings
        self.bounds = SessionBounds(
            settings.stream_chunk_bytes,
            settings.stream_window_bytes,
            settings.stream_events,
            settings.stream_idle_seconds,
            settings.stream_total_seconds,
        )
        self.start_bytes = 2 * settings.stream_chunk_bytes + _START_BYTES
        """Of a first message, which may hold a state; the server's limit of a message is above it."""
        self.lives: dict[str, Live] = {}
        self._ended: dict[str, Live] = {}
        """Those that are over, but whose client may not have heard the end; the oldest first."""
        self._empty = asyncio.Event()
        self._empty.set()
        self._opening = 0
        self._steppers: dict[Pipeline, Stepper] = {}
        self._stepper_of: dict[str, Stepper] = {}
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
        """A new session, or one that goes on from an exported ``state``, whose client has the finals to ``received``:
        by default all that were not held back when it was made.

        Raises:
            ServiceError: it cannot be; the class says whether the client, or the server's load, is why.
        """
        self.service.check_staying()
        if len(self.lives) + self._opening >= self.service.settings.stream_sessions:
            raise Unavailable(f"{len(self.lives)} sessions are open, as many as may be.", _RETRY_FULL)
        stepper = self._stepper(pipeline)
        stepper.lives += 1
        self._opening += 1
        try:
            with _told(list(stepper.streams.options.model_fields)):
                if state is None:
                    asked = StreamRequest(modalities=dict(modalities), options=dict(options))
                    live = self._live(stepper, await self._open(stepper, asked), asked)
                else:
                    opened = await self.service.runner.read(lambda: stepper.sealer.open(state))
                    live = await self._resumed(stepper, opened, received)
            self._check_staying(stepper, live)
        except BaseException:
            self._leave(stepper)
            raise
        finally:
            self._opening -= 1
        self.lives[live.id] = live
        self._empty.clear()
        self._stepper_of[live.id] = stepper
        self._note("a stream began", live, stepper, resumed=state is not None)
        if self._watch is None:
            self._watch = asyncio.create_task(self._sweep())
        return live

    def advice(self, live: Live) -> Event:
        """How much to send at once."""
        return self._stepper_of[live.id].streams.advice(live.start["modalities"])

    def find(self, name: str) -> Live:
        """The session of this id.

        Raises:
            NoSuchSession: there is none, or none any more.
        """
        self._forget_ended()
        live = self.lives.get(name) or self._ended.get(name)
        if live is None or (live.over is not None and live.farewell is None):
            raise NoSuchSession(
                "There is no such session, or its time to come back is over.",
                "Start a new one, or go on from an exported state.",
            )
        return live

    def remove(self, live: Live, reason: str = "detached") -> None:
        """Forget a session that is over, or ends here for a reason; its row is free."""
        if self.lives.pop(live.id, None) is None:
            return
        live.finish(NORMAL, reason=reason)
        stepper = self._stepper_of.pop(live.id)
        seconds = round(live.loop.time() - live.opened, 3)
        self._note("a stream ended", live, stepper, seconds=seconds, reason=live.reason)
        self.service.metrics.stream_ended.labels(live.reason).inc()
        stepper.forget(live)
        self._close(stepper, live)
        self._leave(stepper)
        if live.farewell is not None:
            live.lay_down()
            self._ended[live.id] = live
        self._forget_ended()
        if not self.lives:
            self._empty.set()

    def _forget_ended(self) -> None:
        """Forget those that ended too long ago, or that are too many to be kept."""
        long_ago = asyncio.get_running_loop().time() - self.bounds.idle_seconds
        for name, live in list(self._ended.items()):
            is_old = live.detached is not None and live.detached < long_ago
            if is_old or len(self._ended) > _MOST_ENDED:
                del self._ended[name]

    async def drain(self) -> None:
        """Give every client its state, and end all sessions: their clients can go on elsewhere."""
        self.service.draining = True
        for live in list(self.lives.values()):
            if live.detached is None:
                self._end_with_state(live, DRAINING, "draining")
            else:
                self.remove(live, "draining")
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._empty.wait()
        for live in list(self.lives.values()):
            self.remove(live, "draining")
        if self._watch is not None:
            self._watch.cancel()

    def _check_staying(self, stepper: Stepper, live: Live) -> None:
        """Let a session begin, unless all others were ended while it was opened: nobody would end it with its state.

        Raises:
            Unavailable: they were.
        """
        try:
            self.service.check_staying()
        except Unavailable:
            self._close(stepper, live)
            raise

    @staticmethod
    def _close(stepper: Stepper, live: Live) -> None:
        """Give its row and its readers back."""
        with suppress(RuntimeError):
            stepper.device.submit(live.session.close)
        for reader in live.session.readers.values():
            with alone(live):
                reader.close()

    async def _resumed(self, stepper: Stepper, opened: "Sealed", received: int | None) -> Live:
        """A session that goes on from a state.

        Raises:
            BadState: another version of the server made it.
            WrongFields: finals after ``received`` are not in it.
        """
        from models.streaming.session import Snapshot

        try:
            facts = Facts.model_validate(opened.facts)
        except ValidationError as error:
            raise BadState(_MISFIT) from error
        oldest = facts.said - len(facts.overtaken)
        if received is not None and received < oldest:
            said = f"The state goes on after event {oldest}, and what came after event {received} is not in it."
            raise WrongFields(said, "Go on from an earlier state, or start anew.", field="received")
        snapshot = Snapshot(opened.tensors, facts.numbers, facts.next_sequence - 1)
        live = self._live(stepper, await self._open(stepper, facts.start, snapshot), facts.start)
        live.next_sequence = facts.next_sequence
        live.skip_to(facts.said, facts.overtaken, oldest if received is None else received)
        return live

    def _live(self, stepper: Stepper, session: "Session", asked: StreamRequest) -> Live:
        return Live(session, asked.model_dump(), self.bounds, stepper.wake, self.service.runner.read)

    async def _open(self, stepper: Stepper, asked: StreamRequest, snapshot: "Snapshot | None" = None) -> "Session":
        """On threads of their own: filters are read where chunks are, rows belong to the device.

        Raises:
            BadState: the snapshot is of another kind of session.
        """
        streams = stepper.streams
        options = streams.options.model_validate(asked.options)
        readers = await self.service.runner.read(lambda: streams.readers(asked.modalities))

        def work() -> "Session":
            session = streams.session(options, readers)
            if snapshot is not None:
                try:
                    session.resume(snapshot)
                except (LookupError, RuntimeError, TypeError, ValueError) as error:
                    session.close()
                    raise BadState(_MISFIT) from error
            return session

        return await asyncio.wrap_future(stepper.device.submit(work))

    def _stepper(self, pipeline: "Pipeline") -> Stepper:
        from models.streaming.checkpoint import streams_of
        from models.streaming.sealing import Sealer

        found = self._steppers.get(pipeline)
        if found is None:
            try:
                streams = streams_of(pipeline)
            except CannotStream as error:
                remedy = "Post the whole input to /predict, or use a model whose card says streaming: true."
                raise WrongFields(f"'{pipeline.config.name}' cannot stream: {error}.", remedy, field="model") from error
            most = (self.start_bytes - _START_BYTES) // 4 * 3  # In base64, in a first message.
            sealer = Sealer(self._signing_key(), pipeline.digest, self.service.settings.stream_state_seconds, most)
            found = Stepper(pipeline, streams, self.service.runner.device(pipeline.device), sealer)
            self._steppers[pipeline] = found
        return found

    def _leave(self, stepper: Stepper) -> None:
        """A session less; a stepper without any is taken down, so that an unloaded checkpoint can go."""
        stepper.lives -= 1
        if not stepper.lives:
            stepper.stop()
            self._steppers = {key: other for key, other in self._steppers.items() if other is not stepper}

    def _note(self, event: str, live: Live, stepper: Stepper, **facts: Any) -> None:
        self.service.metrics.stream_sessions.set(len(self.lives))
        log.info(event, model=stepper.pipeline.config.name, session=live.id[:_SHOWN], **facts)

    async def _sweep(self) -> None:
        """End what is overdue."""
        while self.lives:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for stepper in self._steppers.values():
                self.service.swaps.use(stepper.pipeline.config.name)
            for live in list(self.lives.values()):
                with alone(live):
                    self._end_overdue(live, now)
        self._watch = None

    def _end_overdue(self, live: Live, now: float) -> None:
        if (overdue := live.overdue(now)) is None:
            return
        code, reason = overdue
        if live.connection is None:
            self.remove(live)
        elif reason == "slow":
            live.finish(code, reason=reason)
            live.connection.hang_up(code)
        else:
            self._end_with_state(live, code, reason)

    @staticmethod
    def _end_with_state(live: Live, code: int, reason: str) -> None:
        live.ending = True
        live.export(lambda state: live.finish(code, ended(live, reason, state)))

    def _signing_key(self) -> bytes:
        if self._key is None:
            log.warning("FUSIONRNN_STREAM_KEY is not set: exported sessions can be resumed by this process only")
            self._key = secrets.token_bytes(32)
        return self._key


@contextmanager
def _told(known: list[str]) -> Iterator[None]:
    """Let a client know why its session cannot be opened; ``known`` are the options that there are.

    Raises:
        ServiceError: it cannot.
    """
    try:
        yield
    except Busy as error:
        raise Unavailable(str(error), _RETRY_FULL) from error
    except BadState as error:
        raise WrongFields(str(error), "Start a new session.", field="state") from error
    except BadStart as error:
        raise WrongFields(str(error), error.remedy, field=error.field, limit=error.limit) from error
    except ValidationError as error:
        raise from_validation(error, known, "docs/streaming.md") from error
