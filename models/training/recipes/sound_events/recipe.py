"""``sound-events``: ten kinds of environmental sounds, by a convolutional recurrent network with attention pooling.

There are 32 clips a class. So the convolutions start from ImageNet's weights, and each clip is drawn in many disguises.
What is none of the kinds the networks hear too, as a class more, which is dropped when they have learned.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from models.checkpoint import NOVELTY
from models.config import CheckpointConfig
from models.network import FusionRNN
from models.novelty import save_novelty
from models.sequence import pad
from models.training.calibration import calibrate
from models.training.commands import train_command
from models.training.manifest import DataError, read_manifest
from models.training.metrics.classes import calibrated_figures
from models.training.novelty import cross_fitted
from models.training.recipes.cards.sound_events import card
from models.training.recipes.classifier import (
    ClassifierStage,
    Held,
    always,
    answers,
    minutes,
    over_seeds,
    publish,
    train_seeds,
    without_recurrence,
)
from models.training.recipes.recordings import recordings
from models.training.recipes.sound_events import strangers
from models.training.recipes.sound_events.clips import FEATURES, RATE, Clips, Draw, load
from models.training.recipes.waveforms import Waveforms
from models.training.trainer import Schedule

SEEDS = 3
POSTED = 8
"""Every eighth clip is also posted as other kinds of files."""
EPOCHS = 30
CNN = ("encoders.audio.stem.", "encoders.audio.blocks.")
CNN_SHARE = 0.25
"""The convolutions' learning rate, as a share of the others'."""


def describe(labels: list[str], heat: float | None = None) -> CheckpointConfig:
    """The checkpoint's config."""
    encoder = {
        "type": "spectrogram-rnn", "bands": 64, "frames": 128, "blocks": 13,
        "cell": "gru", "hidden": 64, "bidirectional": True, "pooling": "attention", "dropout": 0.3, "direct": 128,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": "sound-events",
            "version": "1.1.0",
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
    others = strangers.load(data.parent / "speech_commands", out / "cache")
    truth = clips.classes.numpy()
    everything = torch.arange(len(truth))
    runs: list[NDArray[np.float64]] = []
    apart: list[tuple[Tensor, Tensor]] = []
    baselines = {f"always '{clips.labels[0]}'": {"accuracy": always(0, truth)}}
    seeds = range(seed, seed + SEEDS)
    for each in seeds:
        runs.append(_cross_validated(clips, others, out, each, pictures, apart if each == seed else None))
        if each == seed:
            network = _trained(clips, others, everything, everything[:10], out / "all", each, pictures)[0]
        _publish(data, out, seed, network, runs, clips, baselines)

    def plain(network: FusionRNN) -> None:
        pictures(network)
        without_recurrence(network, "audio")

    found = _cross_validated(clips, others, out / "no-recurrence", seed, plain)
    baselines["no recurrence"] = {"accuracy": round(float((found.argmax(1) == truth).mean()), 4)}
    _publish(data, out, seed, network, runs, clips, baselines)
    save_novelty(out / "checkpoint" / NOVELTY, {"audio": cross_fitted(vectors(network, clips, everything), apart)})


def _cross_validated(
    clips: Clips,
    others: list[Tensor],
    out: Path,
    seed: int,
    prepare: Callable[[FusionRNN], object],
    apart: list[tuple[Tensor, Tensor]] | None = None,
) -> NDArray[np.float64]:
    """What networks that were trained without a clip's fold answer to it: probabilities [N, C].

    Each network's vectors of the clips that it learned from, and of the others, go to ``apart``.
    """
    found = np.zeros((len(clips.folds), len(clips.labels)))
    for fold in sorted(set(clips.folds.tolist())):
        inside = torch.from_numpy(clips.folds == fold)
        rows, held = (~inside).nonzero().flatten(), inside.nonzero().flatten()
        network, found[held.numpy()] = _trained(clips, others, rows, held, out / f"fold-{fold}", seed, prepare)
        if apart is not None:
            apart.append((vectors(network, clips, rows), vectors(network, clips, held)))
    return found


@torch.inference_mode()
def vectors(network: FusionRNN, clips: Clips, rows: Tensor) -> Tensor:
    """What a network's encoder pools [N, D] of clips as they were recorded."""
    encode = network.eval().encoders["audio"]
    batches = [pad([clips.frames[int(row)][0] for row in batch]) for batch in torch.split(rows, 16)]
    return torch.cat([encode(batch.values, batch.lengths).pooled for batch in batches])


def _trained(
    clips: Clips,
    others: list[Tensor],
    rows: Tensor,
    held: Tensor,
    out: Path,
    seed: int,
    prepare: Callable[[FusionRNN], object],
) -> tuple[FusionRNN, NDArray[np.float64]]:
    """A network trained on ``rows`` and on ``others``, and its answers to the undisguised clips ``held``."""
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
        draw = Draw(clips, rows, others)
        return [SoundStage(network, draw, len(rows), measured, schedule, rate=2e-3, batch=16, keep="last")]

    more = describe([*clips.labels, "none of these"]).network
    network = next(train_seeds(more, stages, measured, out, [seed], prepare=prepare)).network
    strangers.forget(network)
    return network, answers(network, measured)


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
