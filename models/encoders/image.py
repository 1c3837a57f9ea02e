"""Image encoder: photos, or a video's frames, to a sequence of regions that a decoder can attend to."""

from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.encoders.mobilenet import CHANNELS, MobileNetV2
from models.registry import ENCODERS, EncoderConfig
from models.sequence import SequenceOutput, masked_mean
from models.state import State


class MobileNetConfig(EncoderConfig):
    """Sizes of a ``mobilenet-v2`` image encoder."""

    type: Literal["mobilenet-v2"] = "mobilenet-v2"
    width: int = Field(512, ge=8, le=4096, description="Size of a region's vector")
    dropout: float = Field(0.0, ge=0, lt=1)

    reads: ClassVar[tuple[str, ...]] = ("pixels",)

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=8)


@ENCODERS.register("mobilenet-v2", MobileNetConfig)
class MobileNetEncoder(nn.Module):
    """Frames [B, T, 3, H, W] of RGB 0..255 -> T x h x w regions [B, T*h*w, width], in reading order, frame by frame."""

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        self.output_size = config.width
        self.cnn = MobileNetV2()
        self.dropout = nn.Dropout(config.dropout)
        self.project = nn.Linear(CHANNELS, config.width)

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:  # noqa: ARG002
        """Encode the first ``lengths[b]`` (>= 0) frames of each row; frames are independent, so ``state`` is unused."""
        return self.regions(self.cnn(self.pixels(x, lengths)), lengths, x.shape[1])

    def pixels(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The real frames [F, 3, H, W] of a padded batch, scaled to -1..1: no work is spent on padding."""
        frames = [row[:length] for row, length in zip(x, lengths.tolist(), strict=True)]
        return torch.cat(frames).float() / 127.5 - 1

    def regions(self, maps: Tensor, lengths: Tensor, frames: int) -> SequenceOutput:
        """The output for feature maps [F, C, h, w] of all real frames, padded again to ``frames`` a row."""
        area = maps.shape[2] * maps.shape[3]
        vectors = torch.relu(self.project(self.dropout(maps.flatten(2).transpose(1, 2))))
        if len(vectors) < len(lengths) * frames:
            rows = torch.split(vectors, lengths.tolist())
            vectors = torch.cat([torch.cat([row, row.new_zeros(frames - len(row), *row.shape[1:])]) for row in rows])
        sequence = vectors.reshape(len(lengths), frames * area, -1)
        steps = lengths * area
        return SequenceOutput(sequence, steps, masked_mean(sequence, steps))
