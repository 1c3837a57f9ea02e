"""Augmentation: changes of one example's features that leave its target as it is, made anew in every epoch.

Every function takes features [T, ...] and returns features of the same number of steps; chance is torch's global
generator, whose state a resumed run gets back.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def mirror(x: Tensor) -> Tensor:
    """Pictures or frames [T, C, H, W]: left and right exchanged in half of all cases, in all frames alike."""
    return x.flip(-1) if float(torch.rand(())) < 0.5 else x


def shift(x: Tensor, share: float = 0.1) -> Tensor:
    """Pictures or frames [T, C, H, W] moved by up to a tenth of their side, their border repeated."""
    most = max(round(share * x.shape[-1]), 1)
    down, right = torch.randint(0, 2 * most + 1, (2,)).tolist()
    padded = F.pad(x.float(), (most, most, most, most), mode="replicate").to(x.dtype)
    return padded[..., down : down + x.shape[-2], right : right + x.shape[-1]]


def mask_time(x: Tensor, share: float = 0.2) -> Tensor:
    """Steps [T, D]: a stretch of up to a fifth set to the mean over time (SpecAugment, Park et al. 2019)."""
    return _masked(x, 0, share)


def mask_frequency(x: Tensor, share: float = 0.2) -> Tensor:
    """Steps [T, D]: up to a fifth of neighbouring bands set to their mean over time (SpecAugment)."""
    return _masked(x, 1, share)


def noise(x: Tensor, share: float = 0.1) -> Tensor:
    """Real-valued steps [T, ...] plus Gaussian noise of a tenth of the example's own standard deviation."""
    return x + share * x.std(correction=0) * torch.randn_like(x)


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mirror": mirror,
    "shift": shift,
    "mask-time": mask_time,
    "mask-frequency": mask_frequency,
    "noise": noise,
}
"""What ``augment`` in an experiment may name."""

_PICTURES, _STEPS = ("mirror", "shift"), ("mask-time", "mask-frequency", "noise")
FITTING: dict[str, tuple[str, ...]] = {
    "pixels": _PICTURES,
    "ink": _PICTURES,
    "frames": _PICTURES,
    "mouth": _PICTURES,
    "log-mel": _STEPS,
    "vectors": _STEPS,
    "tokens": (),
}
"""Those that each type of features can take; a plug-in's own features are not listed, and may take any."""


def _masked(x: Tensor, axis: int, share: float) -> Tensor:
    size = x.shape[axis]
    width = int(torch.randint(0, round(share * size) + 1, ()))
    start = int(torch.randint(0, size - width + 1, ()))
    index = torch.arange(size)
    inside = (index >= start) & (index < start + width)
    return torch.where(inside.unsqueeze(1) if axis == 0 else inside, x.mean(0, keepdim=True), x)
