"""Lips encoder: a 3-D convolution, convolutions frame by frame, and a recurrent network."""

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoders.recurrent import RecurrentConfig, StepwiseEncoder
from models.registry import ENCODERS
from models.sequence import length_mask

_Channels = Annotated[int, Field(ge=1, le=1024)]


class LipsRNNConfig(RecurrentConfig):
    """Sizes of a ``lips-rnn`` encoder. Its convolution looks ahead, so it cannot stream, and need not try to."""

    type: Literal["lips-rnn"] = "lips-rnn"
    bidirectional: Literal[True] = True
    height: int = Field(48, ge=8, le=256, description="Of the features' frames, pixels")
    width: int = Field(64, ge=8, le=256, description="Of the features' frames, pixels")
    kernel: int = Field(5, ge=1, le=15, description="Frames that the 3-D convolution looks at")
    channels: tuple[_Channels, ...] = Field(
        (24, 48, 96, 128), min_length=1, max_length=6, description="Maps of each convolution, the 3-D one first"
    )
    vector: int = Field(256, ge=1, le=4096, description="Size of a frame's vector")

    reads: ClassVar[tuple[str, ...]] = ("mouth",)

    @classmethod
    def tiny(cls) -> Self:
        return cls(height=12, width=16, channels=(4, 6), vector=8, hidden=6)

    @classmethod
    def variants(cls) -> list[Self]:
        return [cls.tiny(), cls(height=12, width=16, kernel=4, channels=(4,), vector=8, hidden=6, cell="lstm")]

    def check(self, features: Any) -> None:
        if (features.height, features.width) != (self.height, self.width):
            raise ValueError(
                f"the lips encoder reads frames of {self.height} x {self.width} pixels, and the features have "
                f"{features.height} x {features.width}"
            )

    @model_validator(mode="after")
    def _can_see(self) -> Self:
        if min(self.height, self.width) < 2 ** len(self.channels):
            raise ValueError(f"{len(self.channels)} convolutions that halve the sides need frames larger than that")
        return self


class LipsCNN(nn.Module):
    """Frames [B, T, H, W] of 0..255 -> a vector each [B, T, vector]; no work is spent on padding.

    Each clip is first brought to mean 0 and deviation 1, whatever the light and the file's range. Then, as in LipNet
    (Assael et al. 2016), a convolution over time, height and width; the others are over height and width alone, and
    normalize over their picture: batch statistics would let batch-mates in. Each halves the sides. The first is not
    normalized a second time, which would cost more than the convolution itself.
    """

    def __init__(self, config: LipsRNNConfig) -> None:
        super().__init__()
        self.kernel = config.kernel
        self.vector = config.vector
        layers: list[nn.Module] = []
        planes, side, height, width = config.kernel, 5, config.height, config.width
        for maps in config.channels:
            norm = nn.GroupNorm(1, maps) if layers else nn.Identity()
            layers += [nn.Conv2d(planes, maps, side, 2, side // 2, bias=not layers), norm, nn.ReLU()]
            planes, side, height, width = maps, 3, -(-height // 2), -(-width // 2)
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(planes * height * width, config.vector)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of the first ``lengths[b]`` (>= 0) frames of each row, and zeros."""
        real = length_mask(lengths, x.shape[1])
        vectors = torch.zeros(*real.shape, self.vector, device=x.device)
        if not bool(real.any()):
            return vectors
        pixels = standardized(x, real)
        # Of one plane, a convolution over time is one over neighbouring frames as planes; its kernels are faster.
        before = (self.kernel - 1) // 2
        around = F.pad(pixels, (0, 0, 0, 0, before, self.kernel - 1 - before)).unfold(1, self.kernel, 1)
        maps = self.layers(around[real].movedim(-1, 1).contiguous(memory_format=torch.channels_last))
        seen = self.project(maps.flatten(1)).relu()
        return vectors.to(seen.dtype).masked_scatter(real.unsqueeze(2), seen)


def standardized(x: Tensor, real: Tensor) -> Tensor:
    """Frames [B, T, H, W] minus the mean and over the deviation of their row's ``real`` [B, T] ones; the others are 0.

    The deviation counts as one grey level at least, so that flat clips stay flat.
    """
    mask = real[:, :, None, None]
    pixels = x.float()
    count = real.sum(1).clamp(min=1)[:, None, None, None] * x.shape[2] * x.shape[3]
    mean = (pixels * mask).sum((1, 2, 3), keepdim=True) / count
    centred = (pixels - mean) * mask
    deviation = (centred.square().sum((1, 2, 3), keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=1)


@ENCODERS.register("lips-rnn", LipsRNNConfig)
class LipsRNN(StepwiseEncoder):
    """Lips [B, T, H, W] -> a vector a frame -> recurrent network."""

    def __init__(self, config: LipsRNNConfig) -> None:
        super().__init__(config.build(config.vector))
        self.lips = LipsCNN(config)

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.lips(x, lengths)
        return vectors
