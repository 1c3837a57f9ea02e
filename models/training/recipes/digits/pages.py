"""Digits as a phone sees them: somewhere on a page, in uneven light."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.features import InkFeatures
from models.network import FusionRNN
from models.training.recipes.digits.measure import seen
from models.training.recipes.waveforms import choice, uniform

HEIGHT, WIDTH = 480, 640
SHARES = (0.2, 0.9)
"""Least and most that a digit's picture takes of the page's height."""


def on_page(digit: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A light digit on black [28, 28], written dark on a page: RGB [480, 640, 3].

    The page is lit from a corner, a soft shadow lies over a part of it, and the sensor adds noise.
    """
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    page = uniform(170, 235) + uniform(-30, 30) * (columns / WIDTH - 0.5) + uniform(-30, 30) * (rows / HEIGHT - 0.5)
    edge = (rows + columns) / 2**0.5 - uniform(0, HEIGHT + WIDTH)
    page -= uniform(0, 40) / (1 + np.exp(np.clip(-edge / 8, -50, 50)))
    side = round(HEIGHT * uniform(*SHARES))
    ink = cv2.resize(digit, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32) / 255
    top, left = choice(HEIGHT - side + 1), choice(WIDTH - side + 1)
    page[top : top + side, left : left + side] -= uniform(80, 160) * ink
    page += uniform(2, 10) * torch.randn(HEIGHT, WIDTH).numpy()
    grey = np.clip(page, 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, 2)


def on_pages(network: FusionRNN, features: InkFeatures, pictures: Tensor, classes: Tensor) -> dict[str, Any]:
    """Figures of uint8 pictures [N, 28 * 28] of digits int64 [N], each on a page: always the same pages."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        found = [features.find(on_page(picture.view(28, 28).numpy())).pixels[0] for picture in pictures]
    return {"image on a page, every held-back one": seen(network, torch.stack(found), classes)}
