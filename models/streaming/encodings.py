"""What a client sends, to samples: raw PCM as it comes, at any usual rate."""

from typing import Literal, get_args

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from models.media.audio import LOUDEST
from models.state import State
from models.streaming.errors import BadChunk, BadStart
from models.streaming.resampling import Resampled, Samples, resampler

PcmName = Literal["pcm_s16le", "pcm_f32le"]
Rate = Literal[
    8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000
]  # fmt: skip
"""Hz. Each has a filter of megabytes, which is kept."""
RATES: tuple[int, ...] = get_args(Rate)
MOST_CHANNELS = 8
"""In any encoding: what microphones have."""

_TYPES: dict[PcmName, str] = {"pcm_s16le": "<i2", "pcm_f32le": "<f4"}


class Pcm(BaseModel):
    """Samples as they are, channels interleaved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: PcmName
    sample_rate: Rate
    channels: int = Field(1, ge=1, le=MOST_CHANNELS)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return np.dtype(_TYPES[self.encoding]).itemsize * self.channels


class PcmReader:
    """One session's chunks to mono samples at ``target`` Hz, float32, full scale at -1 and 1."""

    offload = False

    def __init__(self, pcm: Pcm, target: int) -> None:
        """Reads the resampler's filter where there is one, in milliseconds.

        Raises:
            BadStart: the rate has too little in common with ``target``.
        """
        self.pcm = pcm
        try:
            self._resampler = resampler(pcm.sample_rate, target)
        except ValueError as error:
            field = "modalities.audio.sample_rate"
            raise BadStart(f"{error}, and cannot be resampled.", "Send 16000 or 48000 Hz, say.", field) from error
        self.resampled: Resampled = self._resampler.start()

    def read(self, chunk: bytes, time: float = 0.0) -> tuple[Samples, str | None]:  # noqa: ARG002 - sound has no gaps
        """The samples that a chunk completes; what is no finite number counts as silence, with a warning.

        Raises:
            BadChunk: it ends within a sample.
        """
        if len(chunk) % self.pcm.frame_bytes:
            raise BadChunk(f"a chunk of {len(chunk)} bytes is no whole number of {self.pcm.frame_bytes}-byte samples")
        values = np.frombuffer(chunk, _TYPES[self.pcm.encoding])
        sane = True
        if self.pcm.encoding == "pcm_s16le":
            samples = values.astype(np.float32) / np.float32(32768)
        else:
            # Also true of what is so large that its power would overflow.
            sane = bool(np.abs(values).max(initial=0) <= LOUDEST)
            samples = values if sane else np.where(np.abs(values) <= LOUDEST, values, np.float32(0))
        if self.pcm.channels > 1:
            samples = samples.reshape(-1, self.pcm.channels).mean(1, dtype=np.float32)
        warning = None if sane else "samples that are not finite numbers count as silence"
        return self._resampler.step(samples, self.resampled), warning

    def finish(self, *, last: bool) -> Samples:  # noqa: ARG002 - an end is as a flush
        """What the resampler still holds when an utterance ends; the next begins in silence."""
        rest = self._resampler.finish(self.resampled)
        self.resampled = self._resampler.start()
        return rest

    def save(self) -> State:
        state = self.resampled
        return {"held": torch.from_numpy(state.held.copy()), "counts": torch.tensor([state.came, state.given])}

    def load(self, state: State) -> None:
        came, given = state["counts"].tolist()
        self.resampled = Resampled(state["held"].numpy(), came, given)

    def close(self) -> None:
        """There is nothing to close."""
