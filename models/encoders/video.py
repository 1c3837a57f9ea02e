"""Video encoders: a CNN over each frame, then a recurrent network, or the mean as the baseline without one."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoders.convolution import Backbone, backbone, by_parts, check_maps
from models.encoders.independent import IndependentEncoder
from models.encoders.recurrent import RecurrentConfig, StepwiseEncoder
from models.registry import ENCODERS, EncoderConfig
from models.sequence import length_mask

_Channels = Annotated[int, Field(ge=4, le=1024)]


class _Frames(EncoderConfig):
    """How both video encoders look at a frame."""

    backbone: Backbone = Field("small", description="'small' is trained from scratch")
    planes: Literal[1, 3] = Field(3, description="3 for frames in colour, 1 for grey ones")
    channels: tuple[_Channels, ...] = Field((16, 32, 64, 128), min_length=1, max_length=6, description="Of 'small'")
    grid: int = Field(2, ge=1, le=16, description="A frame's maps are averaged over grid x grid fields")
    width: int = Field(128, ge=1, le=4096, description="Size of a frame's vector")

    reads: ClassVar[tuple[str, ...]] = ("frames", "pixels")

    def check(self, features: Any) -> None:
        planes = 1 if getattr(features, "colours", "rgb") == "grey" else 3
        if planes != self.planes:
            raise ValueError(f"the video encoder reads frames of {self.planes} planes, and the features have {planes}")
        if self.backbone == "small":
            check_maps(features.size, self.channels)

    @model_validator(mode="after")
    def _can_see(self) -> Self:
        if self.backbone != "small" and self.planes != 3:
            raise ValueError(f"the backbone '{self.backbone}' reads frames in colour: 3 planes")
        return self


class FrameCNN(nn.Module):
    """Frames [B, T, planes, H, W] of 0..255 -> a vector each [B, T, width]; no work is spent on padding."""

    def __init__(self, config: _Frames) -> None:
        super().__init__()
        self.cnn, maps = backbone(config.backbone, config.planes, config.channels)
        self.width = config.width
        self.pool = nn.AdaptiveAvgPool2d(config.grid)
        self.project = nn.Linear(maps * config.grid**2, config.width)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Vectors of the first ``lengths[b]`` (>= 0) frames of each row, and zeros."""
        real = length_mask(lengths, x.shape[1])
        vectors = self.project.weight.new_zeros(*real.shape, self.width)
        frames = x[real]
        if not len(frames):
            return vectors
        seen = by_parts(self._see, frames)
        return vectors.to(seen.dtype).masked_scatter(real.unsqueeze(2), seen)

    def _see(self, frames: Tensor) -> Tensor:
        """Frames [N, planes, H, W] of 0..255 -> vectors [N, width]."""
        pixels = frames.to(self.project.weight.dtype) / 127.5 - 1
        seen: Tensor = self.project(self.pool(self.cnn(pixels)).flatten(1)).relu()
        return seen


class VideoRNNConfig(_Frames, RecurrentConfig):
    """Sizes of a ``video-rnn`` encoder."""

    type: Literal["video-rnn"] = "video-rnn"

    @classmethod
    def tiny(cls) -> Self:
        return cls(channels=(4, 8), width=8, hidden=8)


@ENCODERS.register("video-rnn", VideoRNNConfig)
class VideoRNN(StepwiseEncoder):
    """Frames [B, T, planes, H, W] -> a vector a frame -> recurrent network."""

    def __init__(self, config: VideoRNNConfig) -> None:
        super().__init__(config.build(config.width))
        self.frames = FrameCNN(config)

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.frames(x, lengths)
        return vectors


class VideoMeanConfig(_Frames):
    """Sizes of a ``video-mean`` encoder."""

    type: Literal["video-mean"] = "video-mean"

    @classmethod
    def tiny(cls) -> Self:
        return cls(channels=(4, 8), width=8)


@ENCODERS.register("video-mean", VideoMeanConfig)
class VideoMean(IndependentEncoder):
    """Frames [B, T, planes, H, W] -> a vector a frame, and their mean: the order of frames is not seen."""

    def __init__(self, config: VideoMeanConfig) -> None:
        super().__init__(config.width)
        self.frames = FrameCNN(config)

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.frames(x, lengths)
        return vectors
