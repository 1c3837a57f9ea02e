"""The recordings of ``voice-commands``, and what happens to them on the way to a microphone.

Speech Commands (Warden 2018) at other speeds and levels, anywhere in the window, in rooms, in noise, through narrow
bands, with masked times and bands (SpecAugment, Park et al. 2019). Of words that are no command it has few, so spoken
digits, commands played backwards and people who talk are further ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


def load_talk(data: Path, cache: Path) -> Waveforms:
    """Read ``talk`` beside ``data``, lines of people who talk; `talk.py` makes such a folder.

    Raises:
        DataError: it is missing.
    """
    return Waveforms(read_manifest(data.parent / "talk", "train", media=("audio",)), RATE, cache)


class Heard(NamedTuple):
    """A sound, float32 [N], its class, and whether it was cut out of talk, in which nobody knows what is said."""

    sound: Tensor
    known: int
    talk: bool = False


class Draw:
    """Batches of words as a microphone might have heard them."""

    def __init__(self, sounds: Sounds, talk: Waveforms, features: AudioFeatures) -> None:
        self.sounds, self.talk, self.features = sounds, talk, features

    def __call__(self, rows: Tensor) -> tuple[Inputs, Tensor, Tensor]:
        """Log-mel frames of 1 to 2.5 seconds, smoothed goals, and which rows were cut out of talk, bool [B]."""
        size = RATE if chance(0.6) else round(uniform(1.0, 2.5) * RATE)
        drawn = [self._drawn(int(row), size) for row in rows]
        frames = log_mel(self.features, [each.sound for each in drawn])
        masked = torch.stack([mask_frequency(mask_time(row, 0.15), 0.15) for row in frames.values])
        goals = F.one_hot(torch.tensor([each.known for each in drawn]), len(LABELS)).float()
        talk = torch.tensor([each.talk for each in drawn])
        return {"audio": type(frames)(masked, frames.lengths)}, 0.95 * goals + 0.05 / len(LABELS), talk

    def _drawn(self, row: int, size: int) -> Heard:
        """A training recording as it might be heard, or now and then another in its place."""
        if chance(0.15):
            # Too long for the window, or as long as a word: streams hear both, talk that goes on and single words.
            length = 1.5 * size if chance(0.6) else uniform(0.3, 1.0) * RATE
            return Heard(self._spoken(self._talk(round(length)) * uniform(0.1, 1.0), size), UNKNOWN, talk=True)
        known = int(self.sounds.train_classes[row])
        command = known < len(COMMANDS)
        if chance(0.4 if known == UNKNOWN else 0.05 if command else 0.0):
            return Heard(self._spoken(self._other(), size), UNKNOWN)
        if known == SILENCE or (command and chance(0.03)):
            return Heard(self._silence(size), SILENCE)
        return Heard(self._spoken(self.sounds.train[row], size), known)

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
            noise = self._talk(size) if chance(0.12) else self._noise(size)
            heard = mixed(heard, noise, uniform(0, 30))
        return amplified(_narrowed(heard), uniform(-20, 6))

    def _other(self) -> Tensor:
        """A digit, or what is no word at all, a command played backwards."""
        digits = self.sounds.digits
        if chance(0.6):
            word = digits[choice(len(digits))]
            return word / word.abs().max().clamp(min=1e-3) * uniform(0.1, 0.9)
        commands = (self.sounds.train_classes < len(COMMANDS)).nonzero().flatten()
        return self.sounds.train[int(commands[choice(len(commands))])].flip(0)

    def _talk(self, size: int) -> Tensor:
        """A stretch of talk, of as many lines one after the other as it takes, each at full scale."""
        lines: list[Tensor] = []
        while sum(map(len, lines)) < size:
            line = self.talk[choice(len(self.talk))]
            lines.append(line * (0.9 / line.abs().max().clamp(min=1e-2)))
        return excerpt(torch.cat(lines), size)

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
