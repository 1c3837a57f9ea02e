"""Sound to log-mel frames."""

from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from models.features.features import FEATURES, Features, Modality, Sources, as_bytes
from models.features.mel import LogMel
from models.features.text import TextTokenizer
from models.media.audio import Audio, decode_audio, video_audio
from models.media.limits import MediaLimits

SILENCE = 1e-3
"""A sound whose samples all stay below this, -60 dB of full scale, is noticed as ``silence``."""


class AudioFeatures(Features):
    """Log-mel frames, shifted and scaled by constants: no statistic of the clip, which a stream would not know yet.

    The sound track of a video serves as the audio where none is posted, also of a video that is a modality itself.
    """

    type: Literal["log-mel"] = "log-mel"
    sample_rate: int = Field(16_000, ge=4_000, le=48_000, description="Hz that the sound is resampled to")
    n_mels: int = Field(64, ge=4, le=256, description="Mel bands, from 20 Hz to half the sample rate")
    window: float = Field(0.025, ge=0.005, le=0.2, description="Seconds that a frame looks at")
    hop: float = Field(0.010, ge=0.002, le=0.2, description="Seconds from frame to frame")
    mean: float = Field(-6.0, ge=-100, le=100, description="Subtracted from every log energy")
    std: float = Field(5.0, gt=0, le=100, description="Divides what is left")
    max_seconds: float | None = Field(None, gt=0, le=3600, description="Where a longer sound is cut off")

    stand_ins: ClassVar[tuple[Modality, ...]] = ("video",)
    shares: ClassVar[bool] = True
    nothing: ClassVar[str | None] = "silence"

    @model_validator(mode="after")
    def _has_bands(self) -> Self:
        self.log_mel()
        return self

    @property
    def pace(self) -> float:
        """Of whole samples: 10 ms of 22,050 Hz are 220 of them, which is a little less."""
        return self.log_mel().hop / self.sample_rate

    def log_mel(self) -> LogMel:
        """The spectrogram that these numbers describe, for streams; its frames are still to be scaled."""
        rate = self.sample_rate
        return _log_mel(rate, self.n_mels, round(self.window * rate), round(self.hop * rate))

    def scaled(self, frames: Tensor) -> Tensor:
        """Frames of ``log_mel`` as the encoder reads them."""
        return (frames - self.mean) / self.std

    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[Audio]:
        """The posted sounds, else the sound tracks of the videos; a video without one gives nothing."""
        posted = [] if modality == "video" else sources.get(modality, [])
        sounds = [decode_audio(as_bytes(data), limits, rate=self.sample_rate) for data in posted[:room]]
        if not sounds:
            tracks = (video_audio(as_bytes(data), limits, rate=self.sample_rate) for data in sources.get("video", []))
            sounds = [track for track in tracks if track is not None]
        return sounds[:room]

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:  # noqa: ARG002
        """Sounds at ``sample_rate`` -> float32 [T, n_mels], one frame a hop, one sound after the other."""
        log_mel = self.log_mel()
        return self.scaled(torch.cat([log_mel(audio.samples[: self._most()]) for audio in media]))

    def blank(self) -> list[Audio]:
        """One second of silence."""
        return [Audio(np.zeros(self.sample_rate, np.float32), self.sample_rate)]

    def notices(self, media: list[Any], read: Tensor, tokenizer: TextTokenizer | None = None) -> list[str]:  # noqa: ARG002
        """``silence``: no sample reaches -60 dB of full scale; ``truncated``: something is beyond ``max_seconds``."""
        most = self._most()
        quiet = all(np.abs(audio.samples[:most]).max() < SILENCE for audio in media)
        cut = most is not None and any(len(audio.samples) > most for audio in media)
        return ["silence"] * quiet + ["truncated"] * cut

    def _most(self) -> int | None:
        return None if self.max_seconds is None else max(1, round(self.max_seconds * self.sample_rate))


@lru_cache(32)
def _log_mel(rate: int, bands: int, window: int, hop: int) -> LogMel:
    return LogMel(rate, bands, window, hop)


FEATURES.register("log-mel", AudioFeatures)(AudioFeatures)
