"""Convolutions whose result does not depend on batch, padding or, over time, on where a stream was cut."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from models.encoders.mobilenet import CHANNELS, NETWORKS
from models.sequence import length_mask, round_length
from models.state import State

Backbone: TypeAlias = Literal["small", "mobilenet-v2", "efficientnet-lite0"]

_TOGETHER = 64
"""Frames that a CNN sees at once."""
_NUMBERS = _TOGETHER * 3 * 256**2
"""Numbers in those frames: of larger ones it sees fewer."""
_MOST_MAPS = 2**26
"""Numbers in the maps of one picture: weights of a few megabytes may ask for any number of them."""


class SmallCNN(nn.Module):
    """Pictures [N, planes, H, W] in -1..1 to maps [N, channels[-1], h, w]; each stage halves the sides, rounding up.

    A stage is two 3x3 convolutions, the second with stride 2, each with layer normalization over its picture: batch
    statistics would let batch-mates in.
    """

    def __init__(self, planes: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for size in channels:
            for stride in (1, 2):
                layers += [nn.Conv2d(planes, size, 3, stride, 1, bias=False), nn.GroupNorm(1, size), nn.ReLU()]
                planes = size
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.layers(x)
        return maps


def check_maps(size: int, channels: tuple[int, ...]) -> None:
    """Bound the maps that ``SmallCNN`` makes of a picture of size x size.

    Raises:
        ValueError: those of a stage are too many.
    """
    for stage, maps in enumerate(channels):
        side = -(-size // 2**stage)
        if maps * side**2 > _MOST_MAPS:
            raise ValueError(
                f"{maps} maps of {side} x {side} are more than {_MOST_MAPS} numbers: choose fewer or smaller pictures"
            )


class SequenceConv(nn.Module):
    """One layer over time and bands, [B, T, C, F] -> [B, ceil(T / stride), C', ceil(F / 2)], for every row by itself.

    Output j stands at input j * stride. A causal layer looks back from there, so that a stream gets what the whole
    gets: its state is the last kernel - 1 inputs and how many came since the last output. A centred one looks as far
    ahead as back, and needs the whole sequence.
    """

    def __init__(self, inputs: int, outputs: int, bands: int, *, kernel: int, stride: int, causal: bool) -> None:
        super().__init__()
        self.stride = stride
        self.causal = causal
        self.reach = kernel - 1
        self.shape = (inputs, bands)
        self.bands = -(-bands // 2)
        self.conv = nn.Conv2d(inputs, outputs, (kernel, 3), (stride, 2), (0, 1), bias=False)
        self.norm = nn.LayerNorm((outputs, self.bands))

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """Silence before the first input: ``context`` [rows, kernel - 1, C, F] and ``phase`` int64 [rows]."""
        return {
            "context": self.conv.weight.new_zeros(rows, self.reach, *self.shape, device=device),
            "phase": torch.zeros(rows, dtype=torch.int64, device=device),
        }

    def forward(self, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Outputs, how many of each row are real, and the state, empty unless the layer is causal.

        Raises:
            ValueError: the rows of ``state`` are at different places between two outputs.
        """
        size = x.shape[1]
        # Padding must look to the last real steps as the end of the sequence would: zeros.
        x = x.masked_fill(~length_mask(lengths, size)[:, :, None, None], 0)
        room = round_length(size) - size
        if not self.causal:
            half = self.reach // 2
            outputs = self._outputs(nn.functional.pad(x, (0, 0, 0, 0, half, self.reach - half + room)), size)
            return outputs, self._count(lengths), {}
        phase = int(state["phase"][0])
        if bool((state["phase"] != phase).any()):
            raise ValueError("rows at different places between two outputs cannot be stepped together")
        skipped = -phase % self.stride
        heard = torch.cat([state["context"], x, *([x.new_zeros(len(x), room, *self.shape)] if room else [])], 1)
        outputs = self._outputs(heard[:, skipped:], size - skipped)
        last = lengths.unsqueeze(1) + torch.arange(self.reach, device=x.device)
        after = {
            "context": heard[torch.arange(len(x), device=x.device).unsqueeze(1), last],
            "phase": (state["phase"] + lengths) % self.stride,
        }
        return outputs, self._count((lengths - skipped).clamp(min=0)), after

    def _count(self, lengths: Tensor) -> Tensor:
        return (lengths + self.stride - 1) // self.stride

    def _outputs(self, x: Tensor, steps: int) -> Tensor:
        if steps <= 0:
            return x.new_zeros(len(x), 0, self.conv.out_channels, self.bands)
        count = -(-steps // self.stride)
        maps: Tensor = self.norm(self.conv(x.transpose(1, 2))[:, :, :count].transpose(1, 2))
        return maps.relu()


def by_parts(see: Callable[[Tensor], Tensor], frames: Tensor) -> Tensor:
    """``see(frames)``, of at least one, some at a time: so memory, and what oneDNN plans, stay bounded."""
    together = min(_TOGETHER, max(_NUMBERS // frames[0].numel(), 1))
    parts = [see(part) for part in torch.split(frames, together)]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def backbone(name: Backbone, planes: int, channels: tuple[int, ...]) -> tuple[nn.Module, int]:
    """A network from pictures to maps, and how many maps it makes.

    Raises:
        ValueError: all but ``small`` read colours only.
    """
    if name == "small":
        return SmallCNN(planes, channels), channels[-1]
    if planes != 3:
        raise ValueError(f"{name} reads frames in colour: 3 planes")
    return NETWORKS[name](), CHANNELS
