"""Networks of inverted residual blocks, with batch normalization folded into the convolutions.

MobileNetV2 (Sandler et al. 2018), and EfficientNet-Lite0 (Google 2020), which is EfficientNet (Tan and Le 2019) without
what small devices lack: the same blocks again, some with kernels of 5 x 5, in more layers.

The layer names and the padding follow the published TensorFlow weights. A network is cut in two at any block, because
the lower part's output at a fixed cut can be cached while the upper part is trained.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    """Inverted residual: expand (1x1), depthwise, project (1x1, linear); residual where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = _SameConv2d(inputs, width, 1) if expansion > 1 else None
        self.depthwise = _SameConv2d(width, width, kernel, stride, groups=width)
        self.project = _SameConv2d(width, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else F.relu6(self.expand(x))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        output: Tensor = x + hidden if self.residual else hidden
        return output


class InvertedResiduals(nn.Module):
    """RGB images [N, 3, H, W], values in -1..1, to feature maps [N, 1280, ceil(H / 32), ceil(W / 32)] in 0..6."""

    groups: ClassVar[tuple[tuple[int, int, int, int, int], ...]]
    """Expansion, channels, repeats, stride of the first, and kernel of each group of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _SameConv2d(3, 32, 3, 2)
        blocks, channels = [], 32
        for expansion, outputs, repeats, stride, kernel in self.groups:
            for index in range(repeats):
                blocks.append(_Block(channels, outputs, expansion, stride if index == 0 else 1, kernel))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)
        self.head = _SameConv2d(channels, CHANNELS, 1)

    def lower(self, x: Tensor, cut: int) -> Tensor:
        """The stem and the first ``cut`` blocks."""
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


class MobileNetV2(InvertedResiduals):
    """The paper's table 2."""

    groups = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 32, 3, 2, 3), (6, 64, 4, 2, 3), (6, 96, 3, 1, 3), (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )  # fmt: skip


class EfficientNetLite0(InvertedResiduals):
    """EfficientNet-B0's groups (table 1), without squeeze and excitation and with ReLU6."""

    groups = (
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )  # fmt: skip


NETWORKS: dict[str, type[InvertedResiduals]] = {"mobilenet-v2": MobileNetV2, "efficientnet-lite0": EfficientNetLite0}
"""By the name that a configuration gives them."""
BLOCKS = sum(repeats for _, _, repeats, _, _ in MobileNetV2.groups)


def _same(size: int, kernel: int, stride: int = 2) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
