"""Lips encoder: a 3-D convolution, convolutions frame by frame, and a recurrent network."""

from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.encoders.convolution import by_parts
from models.encoders.recurrent import RecurrentConfig, StepwiseEncoder
from models.features.mouth import FLAT_GREY
from models.registry import ENCODERS
from models.sequence import SequenceOutput, full_lengths, length_mask
from models.state import State

_Channels = Annotated[int, Field(ge=1, le=1024)]


class LipsRNNConfig(RecurrentConfig):
    """Sizes of a ``lips-rnn`` encoder."""

    type: Literal["lips-rnn"] = "lips-rnn"
    bidirectional: bool = Field(True, description="Also from the end to the start; such an encoder cannot stream")
    causal: bool = Field(
        False, description="The 3-D convolution looks back only, and each frame is normalized by itself: it can stream"
    )
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
        small = cls(height=12, width=16, kernel=4, channels=(4,), vector=8, hidden=6, cell="lstm")
        live = cls.tiny().model_copy(update={"causal": True, "bidirectional": False})
        return [cls.tiny(), small, live]

    def check(self, features: Any) -> None:
        if (features.height, features.width) != (self.height, self.width):
            raise ValueError(
                f"the lips encoder reads frames of {self.height} x {self.width} pixels, and the features have "
                f"{features.height} x {features.width}"
            )

    @model_validator(mode="after")
    def _looks_one_way(self) -> Self:
        if self.causal == self.bidirectional:
            raise ValueError("a lips encoder is either causal or bidirectional: one that looks ahead looks at all")
        return self

    @model_validator(mode="after")
    def _can_see(self) -> Self:
        if min(self.height, self.width) < 2 ** len(self.channels):
            raise ValueError(f"{len(self.channels)} convolutions that halve the sides need frames larger than that")
        return self


class LipsCNN(nn.Module):
    """Frames [B, T, H, W] of 0..255 -> a vector each [B, T, vector]; no work is spent on padding.

    Each clip, or frame if it is ``causal``, is first brought to mean 0 and deviation 1, whatever the light and the
    file's range. Then, as in LipNet
    (Assael et al. 2016), a convolution over time, height and width; the others are over height and width alone, and
    normalize over their picture: batch statistics would let batch-mates in. Each halves the sides. The first is not
    normalized a second time, which would cost more than the convolution itself.
    """

    def __init__(self, config: LipsRNNConfig) -> None:
        super().__init__()
        self.kernel = config.kernel
        self.vector = config.vector
        self.causal = config.causal
        layers: list[nn.Module] = []
        planes, side, height, width = config.kernel, 5, config.height, config.width
        for maps in config.channels:
            norm = nn.GroupNorm(1, maps) if layers else nn.Identity()
            layers += [nn.Conv2d(planes, maps, side, 2, side // 2, bias=not layers), norm, nn.ReLU()]
            planes, side, height, width = maps, 3, -(-height // 2), -(-width // 2)
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(planes * height * width, config.vector)

    def forward(self, x: Tensor, lengths: Tensor, before: Tensor | None = None) -> Tensor:
        """Vectors of the first ``lengths[b]`` (>= 0) frames of each row, and zeros.

        Args:
            before: [B, kernel - 1, H, W], what a causal network saw before them.
        """
        real = length_mask(lengths, x.shape[1])
        vectors = self.project.weight.new_zeros(*real.shape, self.vector)
        if not bool(real.any()):
            return vectors
        if before is not None:
            everything = torch.cat([before, x], 1)
            held = before.shape[1] + lengths
            pixels = standardized(everything, length_mask(held, everything.shape[1]), each=True)
        else:
            behind = (self.kernel - 1) // 2
            pixels = F.pad(standardized(x, real), (0, 0, 0, 0, behind, self.kernel - 1 - behind))
        # Of one plane, a convolution over time is one over neighbouring frames as planes; its kernels are faster.
        around = pixels.unfold(1, self.kernel, 1)
        seen = by_parts(lambda places: self._see(around[places.unbind(1)]), real.nonzero())
        return vectors.to(seen.dtype).masked_scatter(real.unsqueeze(2), seen)

    def _see(self, around: Tensor) -> Tensor:
        """Frames and those around them [N, H, W, kernel] -> vectors [N, vector]."""
        pixels = around.movedim(-1, 1).to(self.project.weight.dtype)
        maps = self.layers(pixels.contiguous(memory_format=torch.channels_last))
        seen: Tensor = self.project(maps.flatten(1)).relu()
        return seen


def standardized(x: Tensor, real: Tensor, *, each: bool = False) -> Tensor:
    """Frames [B, T, H, W] minus the mean and over the deviation of their row's ``real`` [B, T] ones; the others are 0.

    The deviation counts as one grey level at least, so that flat clips stay flat. With ``each``, mean and deviation are
    those of each frame by itself.
    """
    mask = real[:, :, None, None]
    pixels = x.float()
    over = (2, 3) if each else (1, 2, 3)
    frames = real if each else real.sum(1, keepdim=True)
    count = frames.clamp(min=1)[:, :, None, None] * x.shape[2] * x.shape[3]
    mean = (pixels * mask).sum(over, keepdim=True) / count
    centred = (pixels - mean) * mask
    deviation = (centred.square().sum(over, keepdim=True) / count).sqrt()
    return centred / deviation.clamp(min=1)


@ENCODERS.register("lips-rnn", LipsRNNConfig)
class LipsRNN(StepwiseEncoder):
    """Lips [B, T, H, W] -> a vector a frame -> recurrent network."""

    def __init__(self, config: LipsRNNConfig) -> None:
        super().__init__(config.build(config.vector))
        self.lips = LipsCNN(config)
        self.frame = config.height, config.width

    def front(self, x: Tensor, lengths: Tensor) -> Tensor:
        vectors: Tensor = self.lips(x, lengths)
        return vectors

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The recurrent network's, and ``seen`` [rows, kernel - 1, H, W]: grey frames, which stand for none."""
        state = self.rnn.initial_state(rows, device)
        if self.lips.causal:
            state["seen"] = torch.full(
                (rows, self.lips.kernel - 1, *self.frame), FLAT_GREY, dtype=torch.uint8, device=device
            )
        return state

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode the first ``lengths[b]`` (>= 0) frames of each row, going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to an encoder that looks ahead.
        """
        if not self.lips.causal:
            return super().forward(x, lengths, state)
        before = self.initial_state(len(x), x.device) if state is None else state
        seen = before["seen"]
        recurrent = {name: value for name, value in before.items() if name != "seen"}
        output: SequenceOutput = self.rnn(self.lips(x, lengths, seen), lengths, recurrent)
        places = lengths[:, None] + torch.arange(seen.shape[1], device=x.device)
        held = torch.cat([seen, x.to(seen.dtype)], 1)[torch.arange(len(x), device=x.device)[:, None], places]
        return SequenceOutput(output.sequence, lengths, output.pooled, output.state | {"seen": held})

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, H, W], all frames real -> (outputs [B, t, H], state); as ``forward`` in one go."""
        output = self(x, full_lengths(x), state)
        return output.sequence, output.state
