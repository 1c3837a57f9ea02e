"""Image encoders: photos, or a video's frames, to a sequence of regions that a decoder can attend to."""

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.encoders.convolution import SmallCNN, check_maps
from models.encoders.mobilenet import CHANNELS, NETWORKS, InvertedResiduals
from models.pooling import Pooling
from models.registry import ENCODERS, EncoderConfig
from models.sequence import SequenceOutput, full_lengths
from models.state import State

_Channels = Annotated[int, Field(ge=4, le=1024)]


class RegionEncoder(nn.Module):
    """Frames [B, T, 3, H, W] of RGB 0..255 -> T x h x w regions [B, T*h*w, width], in reading order, frame by frame."""

    causal = True

    def __init__(self, cnn: nn.Module, maps: int, width: int, dropout: float) -> None:
        super().__init__()
        self.output_size = width
        self.pooling = Pooling("mean", width)
        self.cnn = cnn
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(maps, width)

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:  # noqa: ARG002
        """Encode the first ``lengths[b]`` (>= 0) frames of each row; frames are independent, so ``state`` is unused."""
        if not bool(lengths.any()):
            sequence = self.project.weight.new_zeros(len(x), 1, self.output_size)
            return SequenceOutput(sequence, lengths, sequence[:, 0])
        return self.regions(self.cnn(self.pixels(x, lengths)), lengths, x.shape[1])

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:  # noqa: ARG002
        """Nothing: no frame depends on an earlier one."""
        return {}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Some frames ``x`` [B, t, 3, H, W], t >= 1, all real -> (regions [B, t*h*w, width], the same state)."""
        output = self(x, full_lengths(x))
        return output.sequence, state

    def pixels(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The real frames [F, 3, H, W] of a padded batch, scaled to -1..1: no work is spent on padding."""
        frames = [row[:length] for row, length in zip(x, lengths.tolist(), strict=True)]
        return torch.cat(frames).to(self.project.weight.dtype) / 127.5 - 1

    def regions(self, maps: Tensor, lengths: Tensor, frames: int) -> SequenceOutput:
        """The output for feature maps [F, C, h, w] of all real frames, padded again to ``frames`` a row."""
        area = maps.shape[2] * maps.shape[3]
        vectors = torch.relu(self.project(self.dropout(maps.flatten(2).transpose(1, 2))))
        if len(vectors) < len(lengths) * frames:
            rows = torch.split(vectors, lengths.tolist())
            vectors = torch.cat([torch.cat([row, row.new_zeros(frames - len(row), *row.shape[1:])]) for row in rows])
        sequence = vectors.reshape(len(lengths), frames * area, -1)
        steps = lengths * area
        return SequenceOutput(sequence, steps, self.pooling(sequence, steps))


class _PhotoConfig(EncoderConfig):
    """Sizes of an encoder of photos whose CNN the type names."""

    width: int = Field(512, ge=8, le=4096, description="Size of a region's vector")
    dropout: float = Field(0.0, ge=0, lt=1)

    reads: ClassVar[tuple[str, ...]] = ("pixels", "ink")

    @classmethod
    def tiny(cls) -> Self:
        return cls.model_validate({"width": 8})


class MobileNetConfig(_PhotoConfig):
    """Sizes of a ``mobilenet-v2`` image encoder."""

    type: Literal["mobilenet-v2"] = "mobilenet-v2"


class EfficientNetConfig(_PhotoConfig):
    """Sizes of an ``efficientnet-lite0`` image encoder."""

    type: Literal["efficientnet-lite0"] = "efficientnet-lite0"


@ENCODERS.register("mobilenet-v2", MobileNetConfig)
@ENCODERS.register("efficientnet-lite0", EfficientNetConfig)
class PhotoEncoder(RegionEncoder):
    """Regions of 32 x 32 pixels by a network of inverted residual blocks."""

    cnn: InvertedResiduals

    def __init__(self, config: MobileNetConfig | EfficientNetConfig) -> None:
        super().__init__(NETWORKS[config.type](), CHANNELS, config.width, config.dropout)


class SmallImageConfig(EncoderConfig):
    """Sizes of an ``image-small`` encoder."""

    type: Literal["image-small"] = "image-small"
    channels: tuple[_Channels, ...] = Field((32, 64, 128), min_length=1, max_length=6, description="Maps of each stage")
    width: int = Field(128, ge=1, le=4096, description="Size of a region's vector")
    dropout: float = Field(0.0, ge=0, lt=1)

    reads: ClassVar[tuple[str, ...]] = ("pixels", "ink")

    def check(self, features: Any) -> None:
        check_maps(features.size, self.channels)

    @classmethod
    def tiny(cls) -> Self:
        return cls(channels=(4, 8), width=8)


@ENCODERS.register("image-small", SmallImageConfig)
class SmallImageEncoder(RegionEncoder):
    """Regions by a small CNN for plain pictures such as digits, trained from scratch; each stage halves the sides."""

    def __init__(self, config: SmallImageConfig) -> None:
        super().__init__(SmallCNN(3, config.channels), config.channels[-1], config.width, config.dropout)
