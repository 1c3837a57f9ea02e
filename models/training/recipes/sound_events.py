"""``sound-events``: ten kinds of environmental sounds, by a convolutional recurrent network with attention pooling.

ESC-10 (Piczak 2015) has 32 clips a class here. So the convolutions start from ImageNet's weights, and each clip is
drawn in many disguises: other speeds, levels, noises and places in time, masked bands and times (SpecAugment), and
mixed with another clip (mixup, Zhang et al. 2018).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models.config import CheckpointConfig
from models.features.audio import AudioFeatures
from models.network import FusionRNN
from models.sequence import Padded, pad
from models.training.augmentation import mask_frequency, mask_time
from models.training.calibration import calibrate
from models.training.commands import train_command
from models.training.manifest import DataError, read_manifest
from models.training.metrics.classes import calibrated_figures
from models.training.recipes.cards.sound_events import card
from models.training.recipes.classifier import (
    ClassifierStage,
    Held,
    Inputs,
    always,
    minutes,
    over_seeds,
    publish,
    train_seeds,
    without_recurrence,
)
from models.training.recipes.recordings import recordings
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
from models.training.trainer import Schedule

SEEDS = 3
POSTED = 8
"""Every eighth clip is also posted as other kinds of files."""
EPOCHS = 30
VIEWS = 6
"""Disguises of a clip's waveform, made once; those of its spectrogram are made anew in every epoch."""
CNN = ("encoders.audio.stem.", "encoders.audio.blocks.")
CNN_SHARE = 0.25
"""The convolutions' learning rate, as a share of the others'."""
RATE = 22_050
FEATURES: dict[str, Any] = {
    "type": "log-mel", "sample_rate": RATE, "n_mels": 64, "window": 0.04, "hop": 0.01, "mean": -5.0, "std": 5.0,
}  # fmt: skip
STEPS = 500
"""Frames of a training clip: five seconds."""
FLOOR = math.log(1e-6)
"""Log energy of silence, below which nothing gets."""


def describe(labels: list[str], heat: float | None = None) -> CheckpointConfig:
    """The checkpoint's config."""
    encoder = {
        "type": "spectrogram-rnn", "bands": 64, "frames": 128, "blocks": 13,
        "cell": "gru", "hidden": 64, "bidirectional": True, "pooling": "attention", "dropout": 0.3, "direct": 128,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": "sound-events",
            "version": "1.0.0",
            "task": "classification",
            "description": "Which of ten kinds of environmental sounds is heard.",
            "modalities": {"audio": {"required": True, "features": FEATURES}},
            "network": {
                "encoders": {"audio": encoder},
                "fusion": {"type": "concat", "width": 64},
                "head": {"type": "classification", "classes": len(labels), "dropout": 0.2},
            },
            "labels": labels,
            "defaults": {} if heat is None else {"temperature": heat},
        }
    )


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
    """Batches from some of the clips."""

    def __init__(self, clips: Clips, rows: Tensor) -> None:
        self.clips, self.rows = clips, rows
        self.features = AudioFeatures.model_validate(FEATURES)
        self.floor = (FLOOR - self.features.mean) / self.features.std

    def __call__(self, places: Tensor) -> tuple[Inputs, Tensor]:
        """Spectrograms, a third of them mixed with another one, and the goals in the same proportion."""
        rows = self.rows[places]
        frames = pad([self._drawn(int(row)) for row in rows]).values
        goals = F.one_hot(self.clips.classes[rows], len(self.clips.labels)).float()
        order = torch.randperm(len(rows))
        share = torch.distributions.Beta(0.4, 0.4).sample((len(rows), 1))
        share = torch.where(torch.rand(len(rows), 1) < 0.3, torch.maximum(share, 1 - share), 1.0)
        goals = share * goals + (1 - share) * goals[order]
        # Sounds add up in energy.
        scale, blend = self.features.std, share.unsqueeze(2)
        frames = ((frames * scale).exp() * blend + (frames[order] * scale).exp() * (1 - blend)).log() / scale
        masked = torch.stack([mask_frequency(mask_time(x)) for x in frames])
        lengths = torch.full((len(rows),), masked.shape[1], dtype=torch.int64)
        return {"audio": Padded(masked, lengths)}, 0.95 * goals + 0.05 / len(self.clips.labels)

    def _drawn(self, row: int) -> Tensor:
        views = self.clips.frames[row]
        x = views[choice(len(views))]
        # Where a clip begins says nothing: it is turned in time, and cut to a common length or repeated up to it.
        x = x.roll(choice(len(x)), 0).repeat(-(-STEPS // len(x)), 1)[:STEPS]
        shift = uniform(-12, 6) * math.log(10) / 10 / self.features.std
        return (x + shift).clamp(min=self.floor)


class SoundStage(ClassifierStage):
    """What is new learns fast, and the convolutions, which know pictures, more slowly."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        known = [p for name, p in self.network.named_parameters() if name.startswith(CNN)]
        mine = {id(parameter) for parameter in known}
        new = [parameter for parameter in self.network.parameters() if id(parameter) not in mine]
        return [{"params": new, "lr": self.rate}, {"params": known, "lr": self.rate * CNN_SHARE}]


def from_pictures(network: FusionRNN, weights: Path) -> None:
    """Give the convolutions ImageNet's weights.

    Raises:
        DataError: the file is missing.
    """
    if not weights.is_file():
        raise DataError(f"{weights} does not exist: put MobileNetV2's ImageNet weights beside the data folder")
    encoder = network.encoders["audio"]
    wanted = {name for name, _ in encoder.named_parameters() if f"encoders.audio.{name}".startswith(CNN)}
    stored = load_file(weights)
    encoder.load_state_dict({name: stored[name].float() for name in wanted}, strict=False)


def train(data: Path, out: Path, seed: int) -> None:
    """Cross-validate over the folds, train on all of them, and write ``out/checkpoint``.

    No fold chooses anything of the network that it measures: every network is the one after the last epoch.

    Raises:
        DataError: the data are missing, or have no folds.
    """
    pictures = partial(from_pictures, weights=data.parent / "mobilenet_v2" / "imagenet.safetensors")
    clips = load(data, out / "cache")
    truth = clips.classes.numpy()
    everything = torch.arange(len(truth))
    runs: list[NDArray[np.float64]] = []
    baselines = {f"always '{clips.labels[0]}'": {"accuracy": always(0, truth)}}
    seeds = range(seed, seed + SEEDS)
    for each in seeds:
        runs.append(_cross_validated(clips, out, each, pictures))
        if each == seed:
            network = _trained(clips, everything, everything[:10], out / "all", each, pictures)[0]
        _publish(data, out, seed, network, runs, clips, baselines)

    def plain(network: FusionRNN) -> None:
        pictures(network)
        without_recurrence(network, "audio")

    found = _cross_validated(clips, out / "no-recurrence", seed, plain)
    baselines["no recurrence"] = {"accuracy": round(float((found.argmax(1) == truth).mean()), 4)}
    _publish(data, out, seed, network, runs, clips, baselines)


def _cross_validated(clips: Clips, out: Path, seed: int, prepare: Callable[[FusionRNN], object]) -> NDArray[np.float64]:
    """What networks that were trained without a clip's fold answer to it: probabilities [N, C]."""
    found = np.zeros((len(clips.folds), len(clips.labels)))
    for fold in sorted(set(clips.folds.tolist())):
        inside = torch.from_numpy(clips.folds == fold)
        rows, held = (~inside).nonzero().flatten(), inside.nonzero().flatten()
        found[held.numpy()] = _trained(clips, rows, held, out / f"fold-{fold}", seed, prepare)[1]
    return found


def _trained(
    clips: Clips,
    rows: Tensor,
    held: Tensor,
    out: Path,
    seed: int,
    prepare: Callable[[FusionRNN], object],
) -> tuple[FusionRNN, NDArray[np.float64]]:
    """A network trained on ``rows``, and its answers to the undisguised clips ``held``."""
    parts = torch.split(held, 16)
    measured = Held(
        [({"audio": pad([clips.frames[int(row)][0] for row in part])}, clips.classes[part]) for part in parts]
    )

    def stages(network: FusionRNN) -> list[ClassifierStage]:
        schedule = Schedule(
            epochs=EPOCHS,
            metric="score",
            averaging=0.98,
            patience=EPOCHS,
            warmup_steps=30,
            bf16=True,
            weight_decay=1e-2,
        )
        draw = Draw(clips, rows)
        return [SoundStage(network, draw, len(rows), measured, schedule, rate=2e-3, batch=16, keep="last")]

    run = next(train_seeds(describe(clips.labels).network, stages, measured, out, [seed], prepare=prepare))
    return run.network, run.probabilities


def _publish(
    data: Path,
    out: Path,
    seed: int,
    network: FusionRNN,
    runs: list[NDArray[np.float64]],
    clips: Clips,
    baselines: dict[str, dict[str, float]],
) -> None:
    truth = clips.classes.numpy()
    calibrated = calibrate(runs[0], truth)
    folds, seeds = sorted(set(clips.folds.tolist())), [seed + place for place in range(len(runs))]
    metrics = {
        "dataset": data.resolve().name,
        "split": "train, cross-validated over its folds",
        "n": len(truth),
        "command": train_command("sound-events", data, out, seed),
        "seed": seed,
        "figures": calibrated_figures(calibrated.probabilities, truth),
        "seeds": {
            "accuracy": over_seeds([float((found.argmax(1) == truth).mean()) for found in runs]),
            "of": seeds,
            "minutes": [minutes(*(out / f"fold-{fold}" / f"seed-{each}" for fold in folds)) for each in seeds],
        },
        "folds": {
            str(fold): round(float((runs[0].argmax(1) == truth)[clips.folds == fold].mean()), 4) for fold in folds
        },
        "baselines": baselines,
        "calibration": calibrated.note,
        "labels": clips.labels,
    }
    config = describe(clips.labels, calibrated.heat)

    served = partial(_posted, sounds=clips.sounds, labels=[clips.labels[each] for each in truth])
    publish(out, config, network, metrics, calibrated.probabilities, truth, card=card, served=served)


def _posted(folder: Path, sounds: Waveforms, labels: Sequence[str]) -> dict[str, Any]:
    """How well the checkpoint in ``folder`` hears some clips, ``labels`` of all, that are posted as files."""
    rows = range(0, len(sounds), POSTED)
    heard = [sounds[row].numpy() for row in rows]
    return {"recordings": recordings(folder, heard, RATE, [labels[row] for row in rows], quiet=20)}


def remeasured(folder: Path, data: Path, cache: Path) -> dict[str, Any]:
    """How a shipped checkpoint hears other recordings, measured as in training.

    Raises:
        DataError: the data are missing.
    """
    manifest = read_manifest(data, "train", media=("audio",))
    return _posted(folder, Waveforms(manifest, RATE, cache), [str(example["label"]) for example in manifest.examples])


def _disguised(x: Tensor) -> Tensor:
    x = speed(x, uniform(0.8, 1.25))
    if chance(0.3):
        x = low_passed(x, RATE, uniform(3000, 9000))
    if chance(0.5):
        x = mixed(x, coloured_noise(len(x), uniform(0, 2)), uniform(5, 40))
    return amplified(x, uniform(-15, 3))
