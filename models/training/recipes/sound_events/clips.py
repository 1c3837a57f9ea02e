"""The clips of ESC-10 (Piczak 2015), 32 a class, and their disguises.

Each is drawn at other speeds, levels, noises and places in time, with masked bands and times (SpecAugment), mixed with
another one (mixup, Zhang et al. 2018), and while somebody speaks or plays.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.features.audio import AudioFeatures
from models.sequence import Padded, pad
from models.training.augmentation import mask_frequency, mask_time
from models.training.manifest import DataError, read_manifest
from models.training.recipes.classifier import Inputs
from models.training.recipes.waveforms import (
    Waveforms,
    amplified,
    chance,
    choice,
    coloured_noise,
    log_mel,
    low_passed,
    mixed,
    speed,
    uniform,
)

VIEWS = 6
"""Disguises of a clip's waveform, made once; those of its spectrogram are made anew in every epoch."""
RATE = 22_050
FEATURES: dict[str, Any] = {
    "type": "log-mel", "sample_rate": RATE, "n_mels": 64, "window": 0.04, "hop": 0.01, "mean": -5.0, "std": 5.0,
}  # fmt: skip
STEPS = 500
"""Frames of a training clip: five seconds."""
BESIDE = 0.3
"""The share of clips beside which somebody is softly heard to speak or to play."""
FLOOR = math.log(1e-6)
"""Log energy of silence, below which nothing gets."""


@dataclass(frozen=True, slots=True)
class Clips:
    """Spectrograms [VIEWS, T_v, bands] of each clip, the first view as it was recorded, classes and folds."""

    frames: list[list[Tensor]]
    classes: Tensor
    folds: NDArray[np.int64]
    labels: list[str]
    sounds: Waveforms


def load(data: Path, cache: Path) -> Clips:
    """Read the clips; their disguises are the same in every run.

    Raises:
        DataError: the data are missing, or have no folds.
    """
    manifest = read_manifest(data, "train", media=("audio",))
    if any("fold" not in example or "label" not in example for example in manifest.examples):
        raise DataError(f"{data}/train.jsonl: every line needs a label and a fold, by which to cross-validate")
    sounds = Waveforms(manifest, RATE, cache)
    labels = sorted({str(example["label"]) for example in manifest.examples})
    features = AudioFeatures.model_validate(FEATURES)
    frames = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for row in range(len(sounds)):
            views = [sounds[row], *(_disguised(sounds[row]) for _ in range(VIEWS - 1))]
            frames.append([log_mel(features, [view]).values[0] for view in views])
    classes = torch.tensor([labels.index(example["label"]) for example in manifest.examples])
    return Clips(frames, classes, np.array([int(example["fold"]) for example in manifest.examples]), labels, sounds)


class Draw:
    """Batches from some of the clips, and half as many strangers: sounds [STEPS, bands] that are none of the kinds.

    Strangers have a class of their own, the last one; a clip beside which one is softly heard keeps its kind.
    """

    def __init__(self, clips: Clips, rows: Tensor, strangers: list[Tensor]) -> None:
        self.clips, self.rows, self.strangers = clips, rows, strangers
        self.features = AudioFeatures.model_validate(FEATURES)
        self.floor = (FLOOR - self.features.mean) / self.features.std

    def __call__(self, places: Tensor) -> tuple[Inputs, Tensor]:
        """Spectrograms, a third of the clips mixed with another one, and the goals in the same proportion."""
        rows, classes = self.rows[places], len(self.clips.labels) + 1
        frames = pad([self._drawn(self.clips.frames[int(row)]) for row in rows]).values
        goals = F.one_hot(self.clips.classes[rows], classes).float()
        order = torch.randperm(len(rows))
        share = torch.distributions.Beta(0.4, 0.4).sample((len(rows), 1))
        share = torch.where(torch.rand(len(rows), 1) < 0.3, torch.maximum(share, 1 - share), 1.0)
        goals = share * goals + (1 - share) * goals[order]
        blend = share.unsqueeze(2)
        frames = self._log(self._energy(frames) * blend + self._energy(frames[order]) * (1 - blend))
        frames = torch.stack([self._beside(x) if chance(BESIDE) else x for x in frames])

        others = torch.stack([self._stranger() for _ in range(len(rows) // 2)])
        stranger = F.one_hot(torch.full((len(others),), classes - 1), classes).float()
        masked = torch.stack([mask_frequency(mask_time(x)) for x in torch.cat([frames, others])])
        goals = torch.cat([goals, stranger])
        lengths = torch.full((len(masked),), masked.shape[1], dtype=torch.int64)
        return {"audio": Padded(masked, lengths)}, 0.95 * goals + 0.05 / classes

    def _drawn(self, views: list[Tensor]) -> Tensor:
        x = views[choice(len(views))]
        # Where a clip begins says nothing: it is turned in time, and cut to a common length or repeated up to it.
        x = x.roll(choice(len(x)), 0).repeat(-(-STEPS // len(x)), 1)[:STEPS]
        shift = uniform(-12, 6) * math.log(10) / 10 / self.features.std
        return (x + shift).clamp(min=self.floor)

    def _stranger(self) -> Tensor:
        return self._drawn(self.strangers)

    def _beside(self, x: Tensor) -> Tensor:
        """``x`` with a stranger, 5 to 20 dB below it in power."""
        heard, other = self._energy(x), self._energy(self._stranger())
        softer = heard.mean() / other.mean().clamp(min=1e-9) * 10 ** (-uniform(5, 20) / 10)
        return self._log(heard + other * softer)

    def _energy(self, frames: Tensor) -> Tensor:
        """In which sounds add up, by a common factor."""
        return (frames * self.features.std).exp()

    def _log(self, energy: Tensor) -> Tensor:
        return energy.log() / self.features.std


def _disguised(x: Tensor) -> Tensor:
    x = speed(x, uniform(0.8, 1.25))
    if chance(0.3):
        x = low_passed(x, RATE, uniform(3000, 9000))
    if chance(0.5):
        x = mixed(x, coloured_noise(len(x), uniform(0, 2)), uniform(5, 40))
    return amplified(x, uniform(-15, 3))
