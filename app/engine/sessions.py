"""All streaming sessions of a process, and their steps: whoever has something to step shares the next one.

A checkpoint's sessions have a stepper. While its last step runs, chunks gather; the next step takes along every session
that has a whole tick by then. So steps are small while little happens, and large when much does.
"""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from app.engine.line import DRAINING, NORMAL, Event
from app.engine.live import Bounds, Live
from app.engine.service import Service
from app.engine.stepper import Stepper, ended
from app.errors import NoSuchSession, Unavailable, WrongFields, from_validation
from app.telemetry import log
from models.streaming.errors import BadStart, BadState, Busy, CannotStream

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.streaming.sealing import Sealed
    from models.streaming.session import Session

_SWEEP_SECONDS = 1.0
_DRAIN_SECONDS = 5.0
_RETRY, _RETRY_FULL = 2, 10
_MOST_ENDED = 256
_START_BYTES = 1024
"""What a first message takes up besides a state."""


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
        self._ended: dict[str, Live] = {}
        """Those that are over, but whose client may not have heard the end; the oldest first."""
        self.draining = False
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
        """A new session, or one that goes on from an exported ``state``, whose client has the finals to ``received``.

        Raises:
            ServiceError: it cannot be; the class says whether the client, or the server's load, is why.
        """
        if self.draining:
            raise Unavailable("The server is shutting down.", _RETRY)
        if len(self.lives) + self._opening >= self.service.settings.stream_sessions:
            raise Unavailable(f"{len(self.lives)} sessions are open, as many as may be.", _RETRY_FULL)
        stepper = self._stepper(pipeline)
        stepper.lives += 1
        self._opening += 1
        try:
            opened = None if state is None else stepper.sealer.open(state)
            start = {"modalities": modalities, "options": options} if opened is None else opened.facts["start"]
            session = await self._open(stepper, start, opened)
            live = Live(session, start, self.bounds, stepper.wake, self.service.runner.offload)
            if opened is not None:
                live.next_sequence = opened.facts["next_sequence"]
                live.skip_to(opened.facts["said"], opened.facts["said"] if received is None else received)
        except BaseException as error:
            self._leave(stepper)
            if isinstance(error, Busy):
                raise Unavailable(str(error), _RETRY_FULL) from error
            if isinstance(error, BadState):
                raise WrongFields(str(error), "Start a new session.", field="state") from error
            if isinstance(error, BadStart):
                raise WrongFields(str(error), error.remedy, field=error.field) from error
            if isinstance(error, ValidationError):
                known = list(stepper.streams.options.model_fields)
                raise from_validation(error, known) from error
            raise
        finally:
            self._opening -= 1
        self.lives[live.id] = live
        self._empty.clear()
        self._stepper_of[live.id] = stepper
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

    def remove(self, live: Live) -> None:
        """Forget a session that is over; its row is free."""
        if self.lives.pop(live.id, None) is None:
            return
        live.finish(NORMAL)
        stepper = self._stepper_of.pop(live.id)
        stepper.forget(live)
        with suppress(RuntimeError):
            stepper.device.submit(live.session.close)
        for reader in live.session.readers.values():
            reader.close()
        self._leave(stepper)
        if live.farewell is not None and live.finals:
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

    async def _open(self, stepper: Stepper, start: Mapping[str, Any], opened: "Sealed | None") -> "Session":
        """On threads of their own: filters are read where media are decoded, rows belong to the device."""
        streams = stepper.streams
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

    async def _sweep(self) -> None:
        """End what is overdue."""
        while self.lives:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for stepper in self._steppers.values():
                self.service.swaps.use(stepper.pipeline.config.name)
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
