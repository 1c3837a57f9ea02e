"""What keeps a digit from being seen or heard: noise, blur, occlusion and drop-outs, of a severity from 0 to 1."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.recipes.waveforms import chance, choice, coloured_noise, mixed, uniform


def spoilt_pictures(frames: Tensor, severity: float) -> Tensor:
    """Frames uint8 [T, C, H, W] behind noise, out of focus and partly covered, all frames alike; some fall out."""
    x = frames.float()
    height, width = x.shape[2:]
    if severity > 0 and chance(0.5):
        coarse = [max(3, round(side * (1 - 0.75 * severity))) for side in (height, width)]
        x = F.interpolate(F.interpolate(x, coarse, mode="area"), (height, width), mode="bilinear", align_corners=False)
    if chance(severity):
        tall, wide = (max(1, round(side * 0.7 * severity)) for side in (height, width))
        top, left = choice(height - tall + 1), choice(width - wide + 1)
        x[..., top : top + tall, left : left + wide] = uniform(0, 255)
    # Grey noise: what a sensor adds in the dark has no colour in pictures that have none.
    x = x + 255 * severity * torch.randn(len(x), 1, height, width)
    lost = torch.rand(len(x)) < 0.7 * severity if len(x) > 1 else torch.zeros(1, dtype=torch.bool)
    x[lost] = 128
    return x.round().clamp(0, 255).byte()


def spoilt_sound(x: Tensor, severity: float) -> Tensor:
    """Samples [N] in noise, from 20 dB below them to 15 dB above, with stretches of silence."""
    if severity == 0:
        return x
    x = x.clone()
    for _ in range(3):
        size = round(0.25 * severity * len(x))
        start = choice(len(x) - size + 1)
        x[start : start + size] = 0
    return mixed(x, coloured_noise(len(x), uniform(0, 1.5)), 20 - 35 * severity).clamp(-1, 1)
