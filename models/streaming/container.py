"""Sound in a container that grows: Ogg or WebM with Opus, chunk by chunk as a browser's MediaRecorder sends it.

FFmpeg reads from a pipe, on a thread of its own that sleeps whenever the pipe is empty. A chunk is given to the pipe,
and once the thread is hungry again, all that the chunk completes has come out.
"""

import threading
from collections.abc import Callable
from typing import Literal

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame
from pydantic import BaseModel, ConfigDict

from models.media.audio import LOUDEST
from models.media.container import AUDIO_CODECS, usual
from models.media.errors import MediaError
from models.media.samples import frame_samples, frames_of, sound_decoder
from models.state import State
from models.streaming.encodings import MOST_CHANNELS, RATES
from models.streaming.errors import BadChunk, Busy
from models.streaming.resampling import Resampled, Samples, resampler

_DEMUXERS = {"ogg": "ogg", "webm": "matroska"}
_MOST_SECONDS = 60
"""Of sound in one chunk: a few bytes of Opus can promise much silence."""

_MOST_VALUES = _MOST_SECONDS * 48_000 * 2
"""Samples of all channels in one chunk: a minute of stereo, as a browser records it."""

_PATIENCE = 20.0
"""Seconds for one chunk, on a busy machine."""

_MOST_DAMAGED = 100
"""Packets in a row: a hundred are no sound."""

_THREADS = threading.BoundedSemaphore(256)


class Coded(BaseModel):
    """A file that grows; its rate and channels are its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: Literal["ogg", "webm"]


class _Pipe:
    """What FFmpeg reads from; it holds one chunk at most, and the sound of it."""

    def __init__(self, hear: Callable[[AudioFrame], Samples]) -> None:
        """``hear``, on FFmpeg's thread, makes of a frame what is kept of it."""
        self.changed = threading.Condition()
        self._hear = hear
        self._heard: list[Samples] = []
        self._seconds, self._values = 0.0, 0
        self.error: Exception | None = None
        self.done = False
        self._data = b""
        self._hungry = self._closed = False

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, once there are some; none at the end."""
        with self.changed:
            if not self._data:
                self._hungry = True
                self.changed.notify_all()
            while not self._data and not self._closed:
                self.changed.wait()
            self._hungry = False
            taken, self._data = self._data[:size], self._data[size:]
            return taken

    def feed(self, data: bytes, *, last: bool = False) -> Samples:
        """The samples that ``data`` completes.

        Raises:
            BadChunk: it cannot be decoded.
        """
        with self.changed:
            self._seconds, self._values = 0.0, 0
            self._data += data
            self._closed = self._closed or last
            self.changed.notify_all()
            settled = self.changed.wait_for(
                lambda: self.done or (not last and self._hungry and not self._data), _PATIENCE
            )
            heard, self._heard = self._heard, []
        if self.error is not None:
            raise BadChunk(str(self.error) or "it cannot be decoded") from self.error
        if not settled:
            raise BadChunk("it takes too long to decode")
        if self.done and not last and data:
            raise BadChunk("the container has ended before it")
        return np.concatenate([np.zeros(0, np.float32), *heard])

    def put(self, frame: AudioFrame) -> None:
        """Let a frame out; what is decoded, at many times the size, is gone before the next one comes.

        Raises:
            BadChunk: no sound has such frames, or the chunk has too many.
        """
        rate, channels = frame.sample_rate, frame.layout.nb_channels
        if rate not in RATES:
            read = ", ".join(map(str, RATES))
            raise BadChunk(f"the sound has a sample rate of {rate} Hz, and those of {read} Hz are read")
        if channels > MOST_CHANNELS:
            raise BadChunk(f"the sound has {channels} channels, and {MOST_CHANNELS} are the most")
        with self.changed:
            self._seconds += frame.samples / rate
            self._values += frame.samples * channels
            if self._seconds > _MOST_SECONDS:
                raise BadChunk(f"it holds more than {_MOST_SECONDS} seconds of sound")
            if self._values > _MOST_VALUES:
                raise BadChunk(f"it holds more than {_MOST_VALUES} samples")
            self._heard.append(self._hear(frame))

    def end(self, error: Exception | None) -> None:
        """Nothing more comes out."""
        with self.changed:
            self.error, self.done = error, True
            self.changed.notify_all()

    def close(self) -> None:
        """Nothing more goes in."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()


class CodedReader:
    """One session's chunks to mono samples at ``target`` Hz."""

    offload = True

    def __init__(self, coded: Coded, target: int) -> None:
        """A thread begins with the first chunk."""
        self.coded, self.target = coded, target
        self._rate = 0
        self._resampled: Resampled | None = None
        self._pipe: _Pipe | None = None

    def read(self, chunk: bytes, time: float = 0.0) -> tuple[Samples, str | None]:  # noqa: ARG002 - sound has no gaps
        """The samples that a chunk completes.

        Raises:
            BadChunk: it cannot be decoded.
            Busy: too many sessions decode containers.
        """
        return self._opened().feed(chunk), None

    def finish(self, *, last: bool) -> Samples:
        """What is held back when an utterance ends; with ``last``, also what the file's end lets out."""
        none = np.zeros(0, np.float32)
        rest = self._pipe.feed(b"", last=True) if last and self._pipe is not None else none
        if self._resampled is None:
            return rest
        used = resampler(self._rate, self.target)
        tail, self._resampled = used.finish(self._resampled), used.start()
        return np.concatenate([rest, tail])

    def save(self) -> State:
        """What the resampler holds. What the decoder does is lost: after a resume the file begins anew."""
        state = self._resampled or Resampled(np.zeros(0, np.float32))
        return {
            "held": torch.from_numpy(state.held.copy()),
            "counts": torch.tensor([state.came, state.given, self._rate]),
        }

    def load(self, state: State) -> None:
        came, given, self._rate = state["counts"].tolist()
        if self._rate:
            self._resampled = Resampled(state["held"].numpy(), came, given)

    def close(self) -> None:
        """Let the thread end."""
        if self._pipe is not None:
            self._pipe.close()

    def _opened(self) -> _Pipe:
        if self._pipe is None:
            if not _THREADS.acquire(blocking=False):
                raise Busy("As many sessions as may be send containers.")
            pipe = _Pipe(self._hear)
            try:
                threading.Thread(target=_decode, args=(pipe, self.coded), name="container", daemon=True).start()
            except RuntimeError as error:
                _THREADS.release()
                raise Busy("The system has no thread left to decode a container in.") from error
            self._pipe = pipe
        return self._pipe

    def _hear(self, frame: AudioFrame) -> Samples:
        """A frame, mono and resampled. Only while a chunk is read does the thread that calls it run."""
        rate, block = frame_samples(frame)
        if self._resampled is None or rate != self._rate:
            if self._rate not in (0, rate):
                raise BadChunk("the sound changes its sample rate midway")
            self._rate = rate
            try:
                self._resampled = resampler(rate, self.target).start()
            except ValueError as error:
                raise BadChunk(f"{error}, and cannot be resampled") from error
        if not np.abs(block).max(initial=0) <= LOUDEST:
            raise BadChunk("the sound has samples that are not finite numbers")
        mono = block @ np.full(block.shape[1], 1 / block.shape[1], np.float32)
        return resampler(rate, self.target).step(mono, self._resampled)


def _decode(pipe: _Pipe, coded: Coded) -> None:
    """What the thread does."""
    error: Exception | None = None
    try:
        _demux(pipe, _DEMUXERS[coded.encoding])
    except BadChunk as found:
        error = found
    except MediaError as found:
        error = BadChunk(found.detail)
    # FFmpeg's bindings raise nearly everything on damaged bytes.
    except Exception as found:  # noqa: BLE001
        error = BadChunk(f"it is no {coded.encoding} file with sound")
        error.__cause__ = found
    finally:
        pipe.end(error)
        _THREADS.release()


def _demux(pipe: _Pipe, name: str) -> None:
    # What is needed to know the sound stands in the header; FFmpeg would else wait for seconds of it.
    options = {"codec_whitelist": AUDIO_CODECS, "probesize": "4096", "analyzeduration": "0"}
    with av.open(pipe, "r", format=name, options=options, metadata_errors="replace") as container:
        stream = usual(container.streams.audio)
        if stream is None:
            raise BadChunk("the container has no sound")
        context = sound_decoder(stream, "audio")
        failed = 0
        for packet in container.demux(stream):
            try:
                for frame in frames_of(context, packet, "audio"):
                    pipe.put(frame)
                failed = 0
            except av.error.InvalidDataError as damaged:
                # One damaged packet is a click, as in any player.
                failed += 1
                if failed > _MOST_DAMAGED:
                    raise BadChunk("its packets are corrupt") from damaged
