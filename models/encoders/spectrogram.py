"""Spectrogram encoder: log-mel frames, seen as pictures, through MobileNetV2 into a recurrent network."""

from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoders.convolution import by_parts
from models.encoders.mobilenet import BLOCKS, MobileNetV2
from models.encoders.recurrent import RecurrentConfig
from models.pooling import Pooling
from models.registry import ENCODERS
from models.sequence import SequenceOutput, length_mask
from models.state import State


class SpectrogramRNNConfig(RecurrentConfig):
    """Sizes of a ``spectrogram-rnn`` encoder. It sees whole pictures of the sound, so it cannot stream."""

    type: Literal["spectrogram-rnn"] = "spectrogram-rnn"
    bidirectional: Literal[True] = True
    bands: int = Field(64, ge=8, le=256, description="Mel bands of the features")
    frames: int = Field(128, ge=8, le=1024, description="Frames of a picture")
    blocks: int = Field(13, ge=1, le=BLOCKS, description="Of MobileNetV2, counted from its input")
    direct: int = Field(0, ge=0, le=4096, description="Units that read each step beside the recurrent network")
    fill: float = Field(-2.0, ge=-100, le=100, description="What stands for the frames that the last picture lacks")

    reads: ClassVar[tuple[str, ...]] = ("log-mel",)

    @classmethod
    def tiny(cls) -> Self:
        return cls(frames=8, blocks=2, hidden=8)

    @classmethod
    def variants(cls) -> list[Self]:
        return [cls.tiny(), cls(frames=16, blocks=4, hidden=6, cell="lstm", pooling="attention", direct=5)]

    def check(self, features: Any) -> None:
        if features.n_mels != self.bands:
            raise ValueError(
                f"the spectrogram encoder reads {self.bands} bands, and the features have {features.n_mels}"
            )

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.frames % stride(self.blocks):
            raise ValueError(
                f"{self.blocks} blocks make one step of {stride(self.blocks)} frames: take a multiple of it as `frames`"
            )
        return self


def stride(blocks: int) -> int:
    """Frames, and bands, to a side of what MobileNetV2 sees as one place after ``blocks`` blocks."""
    halved = sum(blocks > first for first in (1, 3, 6, 13))
    return 2 << halved


@ENCODERS.register("spectrogram-rnn", SpectrogramRNNConfig)
class SpectrogramRNN(nn.Module):
    """Log-mel [B, T, bands] -> [B, ceil(T / stride), H].

    A sound is cut into pictures of ``frames`` frames, one after the other. Each goes through the first blocks of
    MobileNetV2, three times the same plane for its three colours; what they say of a step's bands, side by side, is
    what the recurrent network reads. So weights that know photos can be where training starts, which is worth much
    where there are few sounds (Gwardys and Grzywczak 2014; Palanisamy et al. 2020).

    With ``direct`` units, relu(W x_t + b) stands beside each output of the recurrent network, and is pooled likewise.
    """

    causal = False

    def __init__(self, config: SpectrogramRNNConfig) -> None:
        super().__init__()
        self.frames, self.bands = config.frames, config.bands
        self.fill, self.stride = config.fill, stride(config.blocks)
        cnn = MobileNetV2()
        self.stem, self.blocks = cnn.stem, cnn.blocks[: config.blocks]
        last: Any = self.blocks[-1]
        self.size = last.project.out_channels * -(-config.bands // self.stride)
        self.rnn = config.build(self.size)
        self.output_size = self.rnn.output_size + config.direct
        self.direct = nn.Linear(self.size, config.direct) if config.direct else None
        self.beside = Pooling(config.pooling, config.direct) if config.direct else None

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode the first ``lengths[b]`` (>= 0) frames of each row.

        Raises:
            ValueError: a state was given.
        """
        if state is not None:
            raise ValueError("an encoder that looks ahead needs the whole sequence and cannot go on from a state")
        steps = -(-lengths // self.stride)
        filled = torch.where(length_mask(lengths, x.shape[1]).unsqueeze(2), x, self.fill)
        rows = F.pad(filled, (0, 0, 0, -x.shape[1] % self.frames), value=self.fill)
        pictures = rows.reshape(len(x), -1, self.frames, x.shape[2])
        real = length_mask(-(-lengths // self.frames), pictures.shape[1])
        per = self.frames // self.stride
        vectors = x.new_zeros(*real.shape, per, self.size)
        if bool(real.any()):
            seen = by_parts(self.see, pictures[real])
            vectors = vectors.to(seen.dtype).masked_scatter(real[:, :, None, None], seen)
        most = max(1, int(steps.max()))
        vectors = vectors.flatten(1, 2)[:, :most]
        output: SequenceOutput = self.rnn(vectors, steps)
        if self.direct is None or self.beside is None:
            return output
        seen = self.direct(vectors).relu().masked_fill(~length_mask(steps, most).unsqueeze(2), 0)
        sequence = torch.cat([output.sequence, seen], 2)
        return SequenceOutput(sequence, steps, torch.cat([output.pooled, self.beside(seen, steps)], 1))

    def see(self, pictures: Tensor) -> Tensor:
        """Pictures [N, frames, bands] -> vectors [N, frames / stride, channels * places across the bands]."""
        maps = F.relu6(self.stem(planes(pictures).contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            maps = block(maps)
        return by_step(maps)


def planes(pictures: Tensor) -> Tensor:
    """Grey pictures [N, frames, bands] as MobileNetV2 takes them: [N, 3, frames, bands]."""
    return pictures.unsqueeze(1).expand(-1, 3, -1, -1)


def by_step(maps: Tensor) -> Tensor:
    """Maps [N, channels, steps, places] -> what stands side by side at a step: [N, steps, channels * places]."""
    return maps.permute(0, 2, 1, 3).flatten(2)
