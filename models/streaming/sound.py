"""Sound of many sessions at once to the frames that an encoder reads, with what each of them remembers."""

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from models.features.audio import AudioFeatures
from models.state import State
from models.streaming.container import Coded, CodedReader
from models.streaming.encodings import Pcm, PcmReader
from models.streaming.errors import BadStart

_REMEDY = (
    'Send {"encoding": "pcm_s16le" or "pcm_f32le", "sample_rate": 16000, "channels": 1}, or '
    '{"encoding": "ogg" or "webm"}.'
)
_ENCODING: TypeAdapter[Pcm | Coded] = TypeAdapter(Annotated[Pcm | Coded, Field(discriminator="encoding")])


class SoundFront:
    """Samples [R, n * block] at the features' rate to log-mel frames [R, n * stride, bands], a tick a block."""

    def __init__(self, features: AudioFeatures, stride: int) -> None:
        """``stride``: frames of a step of the encoder, so that after each tick all sessions stand at the same place."""
        self.features = features
        self.log_mel = features.log_mel()
        self.rate = features.sample_rate
        self.frames = stride
        self.block = stride * self.log_mel.hop

    @property
    def tick(self) -> float:
        """Seconds of a block."""
        return self.block / self.rate

    def empty(self) -> NDArray[np.float32]:
        """No sample."""
        return np.zeros(0, np.float32)

    def blank(self, ticks: int) -> NDArray[np.float32]:
        """What stands for the sound of a session that sends none."""
        return np.zeros(ticks * self.block, np.float32)

    def reader(self, encoding: Any, modality: str) -> PcmReader | CodedReader:
        """What makes samples of chunks that come so.

        Raises:
            BadStart: it is no encoding of sound, or cannot be resampled.
        """
        try:
            found = _ENCODING.validate_python(encoding)
        except ValidationError as error:
            raise BadStart.of(error, modality, _REMEDY, skip=1) from error  # the encoding that told them apart
        return PcmReader(found, self.rate) if isinstance(found, Pcm) else CodedReader(found, self.rate)

    def initial_state(self, rows: int) -> State:
        """Silence before the first sample: ``heard`` float32 [rows, window - hop]."""
        return {"heard": self.log_mel.start().repeat(rows, 1)}

    def step(self, samples: Tensor, state: State) -> tuple[Tensor, State]:
        """Whole blocks, as many for each row: ``frames`` frames each."""
        frames, heard = self.log_mel.step(samples, state["heard"])
        return self.features.scaled(frames), {"heard": heard}

    def finish(self, samples: Tensor, state: State) -> Tensor:
        """Frames [1, t, bands] of the last samples [1, fewer than a block] of one row, if the sound ends with them."""
        if not samples.shape[1]:
            return torch.zeros(1, 0, self.features.n_mels)
        frames, heard = self.log_mel.step(samples, state["heard"])
        return self.features.scaled(torch.cat([frames, self.log_mel.finish(heard[0]).unsqueeze(0)], 1))
