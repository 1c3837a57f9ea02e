"""MobileNetV2 (Sandler et al. 2018) with batch normalization folded into the convolutions.

The layer names and the padding follow the published TensorFlow weights, so those load without renaming. The network is
cut in two at any block, because the lower part's output at a fixed cut can be cached while the upper part is trained.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# (expansion, channels, repeats, stride) of each group of inverted residual blocks: the paper's table 2.
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
BLOCKS = sum(repeats for _, _, repeats, _ in _GROUPS)
CHANNELS = 1280
STRIDE = 32


class _SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: at stride 2 the odd row and column go below and to the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            x = F.pad(x, (*_same(x.shape[3], self.kernel_size[1]), *_same(x.shape[2], self.kernel_size[0])))
        return super().forward(x)


class _Block(nn.Module):
    """Inverted residual: expand (1x1), depthwise (3x3), project (1x1, linear); residual where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = _SameConv2d(inputs, width, 1) if expansion > 1 else None
        self.depthwise = _SameConv2d(width, width, 3, stride, groups=width)
        self.project = _SameConv2d(width, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        output: Tensor = x + hidden if self.residual else hidden
        return output


class MobileNetV2(nn.Module):
    """RGB images [N, 3, H, W], values in -1..1, to feature maps [N, 1280, ceil(H / 32), ceil(W / 32)] in 0..6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _SameConv2d(3, 32, 3, 2)
        blocks, channels = [], 32
        for expansion, outputs, repeats, stride in _GROUPS:
            for index in range(repeats):
                blocks.append(_Block(channels, outputs, expansion, stride if index == 0 else 1))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = _SameConv2d(channels, CHANNELS, 1)

    def lower(self, x: Tensor, cut: int) -> Tensor:
        """The stem and the first ``cut`` blocks (0..17)."""
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks[:cut]:
            x = block(x)
        return x

    def upper(self, x: Tensor, cut: int) -> Tensor:
        """All that follows ``lower(x, cut)``."""
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks[cut:]:
            x = block(x)
        maps: Tensor = F.relu6(self.head(x))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.lower(x, 0), 0)


def _same(size: int, kernel: int, stride: int = 2) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
