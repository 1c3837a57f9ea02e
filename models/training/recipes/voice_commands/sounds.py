"""The recordings of ``voice-commands``, and what happens to them on the way to a microphone.

Speech Commands (Warden 2018) at other speeds and levels, anywhere in the window, in rooms, in noise, through narrow
bands, with masked times and bands (SpecAugment, Park et al. 2019). Of words that are no command it has few, so spoken
digits and commands played backwards are further ones.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.features.audio import AudioFeatures
from models.training.augmentation import mask_frequency, mask_time
from models.training.manifest import DataError, Manifest, read_manifest
from models.training.recipes.classifier import Inputs
from models.training.recipes.waveforms import (
    Waveforms,
    amplified,
    band_passed,
    chance,
    choice,
    coloured_noise,
    excerpt,
    in_a_room,
    log_mel,
    mixed,
    placed,
    speed,
    uniform,
)

COMMANDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
LABELS = (*COMMANDS, "silence", "unknown")
SILENCE, UNKNOWN = LABELS.index("silence"), LABELS.index("unknown")
RATE = 16_000
MEASURED_FOLD = 4
"""The fold of environmental sounds that is not heard in training: false accepts are counted on it."""


@dataclass(frozen=True, slots=True)
class Sounds:
    """Training and validation words, environmental sounds as noise, some that are only measured on, and digits."""

    train: Waveforms
    val: Waveforms
    noise: Waveforms
    digits: Waveforms
    measured_digits: Waveforms
    train_classes: Tensor
    val_classes: Tensor
    noise_rows: list[int]
    measured_rows: list[int]


def load(data: Path, cache: Path) -> Sounds:
    """Read ``data`` and, beside it, ``esc10`` and ``fsdd``.

    Raises:
        DataError: one is missing, or ``data`` has a label that is not one of the twelve.
    """
    noise = read_manifest(data.parent / "esc10", "train", media=("audio",))
    digits = {name: read_manifest(data.parent / "fsdd", name, media=("audio",)) for name in ("train", "val")}
    splits = {name: read_manifest(data, name, media=("audio",)) for name in ("train", "val")}
    folds = [int(example["fold"]) for example in noise.examples]
    return Sounds(
        Waveforms(splits["train"], RATE, cache),
        Waveforms(splits["val"], RATE, cache),
        Waveforms(noise, RATE, cache),
        Waveforms(digits["train"], RATE, cache),
        Waveforms(digits["val"], RATE, cache),
        _classes(splits["train"]),
        _classes(splits["val"]),
        [row for row, fold in enumerate(folds) if fold != MEASURED_FOLD],
        [row for row, fold in enumerate(folds) if fold == MEASURED_FOLD],
    )


class Draw:
    """Batches of words as a microphone might have heard them."""

    def __init__(self, sounds: Sounds, features: AudioFeatures) -> None:
        self.sounds, self.features = sounds, features

    def __call__(self, rows: Tensor) -> tuple[Inputs, Tensor]:
        """Log-mel frames of 1 to 2 seconds, and smoothed goals."""
        size = RATE if chance(0.75) else round(uniform(1.0, 2.0) * RATE)
        drawn = [self._drawn(int(row), size) for row in rows]
        frames = log_mel(self.features, [heard for heard, _ in drawn])
        masked = torch.stack([mask_frequency(mask_time(row, 0.15), 0.15) for row in frames.values])
        goals = F.one_hot(torch.tensor([known for _, known in drawn]), len(LABELS)).float()
        return {"audio": type(frames)(masked, frames.lengths)}, 0.95 * goals + 0.05 / len(LABELS)

    def _drawn(self, row: int, size: int) -> tuple[Tensor, int]:
        """A training recording as it might be heard, or now and then another in its place, and its class."""
        known = int(self.sounds.train_classes[row])
        command = known < len(COMMANDS)
        if chance(0.4 if known == UNKNOWN else 0.05 if command else 0.0):
            return self._spoken(self._other(), size), UNKNOWN
        if known == SILENCE or (command and chance(0.03)):
            return self._silence(size), SILENCE
        return self._spoken(self.sounds.train[row], size), known

    def _spoken(self, word: Tensor, size: int) -> Tensor:
        if chance(0.8):
            word = speed(word, uniform(0.75, 1.3))
        if chance(0.3):
            word = in_a_room(word, RATE, uniform(0.15, 1.2), uniform(-9, 4))[: len(word) + RATE // 4]
        room = size - len(word)
        slack = RATE // 8
        start = min(room, 0) - slack + choice(abs(room) + 2 * slack + 1)
        heard = placed(word, size, start)
        if chance(0.75):
            heard = mixed(heard, self._noise(size), uniform(0, 30))
        return amplified(_narrowed(heard), uniform(-20, 6))

    def _other(self) -> Tensor:
        """A digit, or what is no word at all, a command played backwards."""
        digits = self.sounds.digits
        if chance(0.6):
            word = digits[choice(len(digits))]
            return word / word.abs().max().clamp(min=1e-3) * uniform(0.1, 0.9)
        commands = (self.sounds.train_classes < len(COMMANDS)).nonzero().flatten()
        return self.sounds.train[int(commands[choice(len(commands))])].flip(0)

    def _silence(self, size: int) -> Tensor:
        if chance(0.4):
            return amplified(_narrowed(self._quiet(size)), uniform(-20, 6))
        noise = _narrowed(self._noise(size))
        return amplified(noise / noise.abs().max().clamp(min=1e-4), uniform(-80, 0))

    def _noise(self, size: int) -> Tensor:
        if chance(0.3):
            return coloured_noise(size, uniform(0, 2))
        if chance(0.3):
            return self._quiet(size)
        rows = self.sounds.noise_rows
        return excerpt(self.sounds.noise[rows[choice(len(rows))]], size)

    def _quiet(self, size: int) -> Tensor:
        rows = (self.sounds.train_classes == SILENCE).nonzero().flatten()
        return excerpt(self.sounds.train[int(rows[choice(len(rows))])], size)


def _narrowed(x: Tensor) -> Tensor:
    """In a third of cases as through a telephone, or a cheap microphone: silence too, or a narrow band would say word.

    The digits are recorded at 8 kHz, so that half of these bands end where theirs do.
    """
    if not chance(0.35):
        return x
    return band_passed(x, RATE, uniform(0, 300), 3900 if chance(0.5) else uniform(3000, 7000))


def _classes(manifest: Manifest) -> Tensor:
    strange = sorted({str(example.get("label")) for example in manifest.examples} - set(LABELS))
    if strange:
        raise DataError(f"{manifest.split}.jsonl has labels that are no command: {', '.join(strange[:10])}")
    return torch.tensor([LABELS.index(example["label"]) for example in manifest.examples])
