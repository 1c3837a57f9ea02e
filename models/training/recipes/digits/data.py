"""Digits seen, spoken, written and read from lips: sets that have nothing in common but their classes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.config import CheckpointConfig
from models.features.audio import AudioFeatures
from models.features.ink import InkFeatures
from models.features.text import TextTokenizer
from models.sequence import Padded, pad
from models.training.manifest import DataError, read_manifest
from models.training.recipes.av_speech.data import GRAMMAR, Sentence, SpeechData
from models.training.recipes.digits.corruption import spoilt_pictures, spoilt_sound
from models.training.recipes.digits.printed import FACES, printed
from models.training.recipes.digits.spoken import RATE, Sounds, Spoken, closely, spoken_within
from models.training.recipes.digits.words import FORMS, garbled, written
from models.training.recipes.waveforms import (
    Waveforms,
    amplified,
    band_passed,
    chance,
    choice,
    coloured_noise,
    in_a_room,
    mixed,
    placed,
    speed,
    uniform,
)

DIGITS = tuple(forms[0] for forms in FORMS)
MODALITIES = ("audio", "image", "text", "video")
SENTENCES = "sentences"
"""A split like ``val``, whose sounds are digits out of sentences, and who says these in it."""
EVERY = 12
"""Of MNIST's training pictures, which come without a validation set, every so many-th is held back."""
MARGIN = 3
"""Frames of a talking face before and after the digit."""
_PLACE = next(place for place, words in enumerate(GRAMMAR) if "zero" in words)
"""Of the digit in a sentence."""


@dataclass(frozen=True, slots=True)
class Split:
    """One split's media; classes int64 of each."""

    pictures: Tensor
    picture_classes: Tensor
    sounds: Sounds
    sound_classes: Tensor
    speakers: list[str]
    lips: list[Tensor]
    lip_classes: Tensor

    def rows_of(self, modality: str) -> list[Tensor]:
        """Places of each digit among the media of a modality that is not generated."""
        classes = {"image": self.picture_classes, "audio": self.sound_classes, "video": self.lip_classes}[modality]
        return [(classes == digit).nonzero().flatten() for digit in range(10)]


def load(data: Path, cache: Path) -> dict[str, Split]:
    """Read ``mnist``, ``fsdd`` and ``grid_s1`` in the folder ``data``: ``train``, ``val`` and ``SENTENCES``.

    In training some pictures are printed digits, and some sounds are cut out of the sentences of ``grid_s1``.

    Raises:
        DataError: one of them is missing.
    """
    path = data / "mnist" / "train.npz"
    if not path.is_file():
        raise DataError(f"{path} does not exist: it has MNIST's training pictures and labels")
    with np.load(path, allow_pickle=False) as arrays:
        pictures, classes = torch.from_numpy(arrays["image"]), torch.from_numpy(arrays["label"]).long()
    speech = SpeechData(data / "grid_s1", cache)
    held_back = torch.arange(len(classes)) % EVERY == 0
    splits = {}
    for name, rows in {"train": ~held_back, "val": held_back}.items():
        manifest = read_manifest(data / "fsdd", name, media=("audio",))
        said = [speech.sentence(name, row) for row in range(speech.count(name))]
        digits = torch.tensor([DIGITS.index(speech.text(name, row)[_PLACE]) for row in range(len(said))])
        splits[name] = Split(
            pictures[rows],
            classes[rows],
            Waveforms(manifest, RATE, cache),
            torch.tensor([DIGITS.index(example["label"]) for example in manifest.examples]),
            [str(example.get("speaker", "")) for example in manifest.examples],
            [_lips(sentence) for sentence in said],
            digits,
        )
        within = [spoken_within(sentence, _PLACE) for sentence in said]
        if name == "train":
            splits[name] = _more(splits[name], within)
        else:
            speakers = [SENTENCES] * len(within)
            splits[SENTENCES] = replace(splits[name], sounds=closely(within), sound_classes=digits, speakers=speakers)
    return splits


def _more(split: Split, within: Sequence[Tensor]) -> Split:
    """What is learned besides: print, and digits out of sentences."""
    assert isinstance(split.sounds, Waveforms)
    in_print, print_classes = printed(FACES)
    return replace(
        split,
        pictures=torch.cat([split.pictures, in_print]),
        picture_classes=torch.cat([split.picture_classes, print_classes]),
        sounds=Spoken(split.sounds, within),
        sound_classes=torch.cat([split.sound_classes, split.lip_classes]),
        speakers=[*split.speakers, *[SENTENCES] * len(within)],
    )


def _lips(sentence: Sentence) -> Tensor:
    first, last = sentence.borders[_PLACE], sentence.borders[_PLACE + 1]
    return sentence.lips[max(first - MARGIN, 0) : last + MARGIN].clone()


class Maker:
    """Makes one input of a digit for each modality, changed as in daily life and spoilt on purpose."""

    def __init__(self, split: Split, config: CheckpointConfig, tokenizer: TextTokenizer, *, varied: bool) -> None:
        """``varied``: also move, turn, invert, speed up and reword, as in training."""
        self.split, self.tokenizer, self.varied = split, tokenizer, varied
        features, ink = (config.modalities[name].features for name in ("audio", "image"))
        assert isinstance(features, AudioFeatures)
        assert isinstance(ink, InkFeatures)
        self.features, self.ink = features, ink
        self.window = RATE
        self.rows = {name: split.rows_of(name) for name in ("audio", "image", "video")}

    def batch(self, modality: str, digits: Tensor, severity: Tensor) -> Padded:
        """Inputs of int64 [B] digits, each from a medium drawn among those of its class."""
        make = {"audio": self.audio, "image": self.image, "text": self.text, "video": self.video}[modality]
        # Of one length in training, where torch's kernels are several times as fast on batches that need no packing.
        self.window = round(uniform(0.5, 1.2) * RATE)
        return pad([make(int(digit), float(level)) for digit, level in zip(digits, severity, strict=True)])

    def image(self, digit: int, severity: float) -> Tensor:
        """A picture uint8 [1, 3, 28, 28]."""
        return self.picture(self._drawn("image", digit), severity)

    def picture(self, row: int, severity: float) -> Tensor:
        """The same of a given picture."""
        x = self.split.pictures[row].view(1, 1, 28, 28).expand(1, 3, 28, 28)
        if self.varied:
            x = _inked(_moved(x.float())).round().clamp(0, 255).byte()
            x = 255 - x if chance(0.3) else x
        return spoilt_pictures(x, severity) if severity > 0 else x.contiguous()

    def audio(self, digit: int, severity: float) -> Tensor:
        """Log-mel frames [T, bands]."""
        return self.sound(self._drawn("audio", digit), severity)

    def sound(self, row: int, severity: float) -> Tensor:
        """The same of a given recording."""
        x = self.split.sounds[row]
        if self.varied:
            x = recorded(x)
            x = placed(x, self.window, choice(max(self.window - len(x), 0) + 1))
            if chance(0.3):
                x = mixed(x, coloured_noise(len(x), uniform(0, 2)), uniform(0, 30))
            x = amplified(x, uniform(-35, 6))
        frames = self.features.log_mel()(spoilt_sound(x, severity).numpy())
        return self.features.scaled(frames)

    def text(self, digit: int, severity: float) -> Tensor:
        """Character ids [T]."""
        text = written(digit) if self.varied else FORMS[digit][choice(len(FORMS[digit]))]
        return torch.tensor(self.tokenizer.encode(garbled(text, severity)) or [self.tokenizer.unknown])

    def video(self, digit: int, severity: float) -> Tensor:
        """Lips uint8 [T, H, W]."""
        return self.clip(self._drawn("video", digit), severity)

    def clip(self, row: int, severity: float) -> Tensor:
        """The same of a given clip."""
        x = self.split.lips[row].unsqueeze(1)
        if self.varied:
            first, last = choice(MARGIN + 1), choice(MARGIN + 1)
            x = x[first : len(x) - last] if len(x) > first + last else x
            x = x.flip(3) if chance(0.5) else x
            x = x.roll((choice(5) - 2, choice(7) - 3), (2, 3))
        return (spoilt_pictures(x, severity) if severity > 0 else x).squeeze(1).contiguous()

    def _drawn(self, modality: str, digit: int) -> int:
        rows = self.rows[modality][digit]
        return int(rows[choice(len(rows))])


def recorded(x: Tensor) -> Tensor:
    """A sound as others may have said and recorded it: slower or faster, through a telephone, in a room."""
    x = speed(x, uniform(0.8, 1.25))
    if chance(0.4):
        x = band_passed(x, RATE, uniform(50, 450), uniform(2500, 4000))
    return in_a_room(x, RATE, uniform(0.1, 0.6)) if chance(0.25) else x


def _moved(x: Tensor) -> Tensor:
    """Pictures [1, C, H, W] turned by up to 12 degrees, slanted, scaled by up to 12 % and shifted by up to 2 pixels."""
    angle = torch.deg2rad(torch.tensor(uniform(-12, 12)))
    cos, sin = float(angle.cos()), float(angle.sin())
    wide, tall, slant = 1 / uniform(0.85, 1.12), 1 / uniform(0.88, 1.12), uniform(-0.2, 0.2)
    shift = [uniform(-2, 2) * 2 / x.shape[2], uniform(-2, 2) * 2 / x.shape[2]]
    turn = torch.tensor(
        [[[cos * wide, (slant * cos - sin) * tall, shift[0]], [sin * wide, (slant * sin + cos) * tall, shift[1]]]]
    )
    grid = F.affine_grid(turn, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _inked(x: Tensor) -> Tensor:
    """Light strokes [1, C, H, W] with another pen: a third of them thinner, a third thicker."""
    kind = choice(3)
    if kind == 0:
        return x
    thick = F.max_pool2d(x, 3, 1, 1) if kind == 1 else -F.max_pool2d(-x, 3, 1, 1)
    return torch.lerp(x, thick, uniform(0, 0.7 if kind == 1 else 0.5))
