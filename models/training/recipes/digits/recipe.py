"""The recipe of ``digits``.

The four sets share nothing but their classes: given the digit, what is seen says nothing about what is heard. So the
product of what the modalities each believe (Hinton 2002) is the right way to combine them, if each believes what it
may: they are trained on inputs that are spoilt on purpose, each alone and all together, with modalities left out.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoint import load_checkpoint
from models.config import CheckpointConfig
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.sequence import pad
from models.training.calibration import calibrate
from models.training.commands import train_command
from models.training.metrics.classes import class_figures
from models.training.recipes.cards.digits import card
from models.training.recipes.classifier import (
    ClassifierStage,
    Held,
    Inputs,
    Run,
    answers,
    minutes,
    over_seeds,
    publish,
    train_seeds,
    without_recurrence,
)
from models.training.recipes.digits.data import DIGITS, MODALITIES, SENTENCES, Maker, Split, load
from models.training.recipes.digits.measure import measured, seen, singles, within_sentences
from models.training.recipes.digits.pages import on_pages
from models.training.recipes.digits.printed import UNSEEN, printed
from models.training.recipes.digits.spoken import RATE
from models.training.recipes.digits.words import tokenizer
from models.training.stage import drop_modalities
from models.training.trainer import Schedule, Stage

SEEDS = 3
PICTURE_EPOCHS = 16
EPOCHS = 14
SOUND_EPOCHS = 40
"""Of sounds alone, after the bundles: what they may have gone through is more than a bundle's epochs show."""
BUNDLES = 1000
"""Validation bundles that are made of the held-back media."""
CHOOSING = 300
"""Bundles by which the epoch is chosen."""
LEFT_OUT = 0.23
"""Chance of each modality to be left out of a training bundle."""


def describe(words: TextTokenizer, heat: float | None = None) -> CheckpointConfig:
    """The checkpoint's config."""
    recurrent = {"cell": "gru", "bidirectional": True, "pooling": "attention", "dropout": 0.1}
    audio = {"type": "log-mel", "sample_rate": RATE, "n_mels": 32, "mean": -6.0, "std": 4.0}
    encoders = {
        "audio": {"type": "audio-rnn", "bands": 32, "channels": [16, 32], "strides": [2, 2], "hidden": 64} | recurrent,
        "image": {"type": "image-small", "channels": [32, 64, 96], "width": 96},
        "text": {"type": "text-rnn", "vocabulary": words.size, "embedding": 24, "hidden": 48} | recurrent,
        "video": {"type": "lips-rnn", "channels": [16, 32, 48], "vector": 64, "hidden": 48} | recurrent,
    }
    return CheckpointConfig.model_validate(
        {
            "name": "digits",
            "version": "1.4.0",
            "task": "classification",
            "description": "Which digit is seen, heard, written or read from lips, from any of the four together.",
            "modalities": {
                "audio": {"features": audio},
                "image": {"features": {"type": "ink", "size": 28}},
                "text": {"features": {"type": "tokens", "max_tokens": 64, "max_numerals": 1}},
                "video": {"features": {"type": "mouth"}},
            },
            "network": {
                "encoders": encoders,
                "fusion": {"type": "decision", "outputs": 10, "combine": "product"},
                "head": {"type": "decision", "outputs": 10},
            },
            "labels": list(DIGITS),
            "defaults": {} if heat is None else {"temperature": heat},
        }
    )


def drawn_severity(count: int) -> Tensor:
    """Severities float32 [count]: half of them 0."""
    return (torch.rand(count) * 2 - 1).clamp(min=0)


class PictureDraw:
    """Batches of pictures alone, of which there are many more than of other media."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker

    def __call__(self, rows: Tensor) -> tuple[Inputs, Tensor]:
        """Pictures, and their digits."""
        levels = drawn_severity(len(rows))
        pictures = [self.maker.picture(int(row), float(level)) for row, level in zip(rows, levels, strict=True)]
        return {"image": pad(pictures)}, _goals(self.maker.split.picture_classes[rows])


class BundleDraw:
    """Batches of bundles: a recording, and what else there is of its digit."""

    def __init__(self, maker: Maker, names: Sequence[str] = MODALITIES, rows: Tensor | None = None) -> None:
        """``rows``: of the recordings, those that are drawn from; all if left out."""
        self.maker, self.names = maker, names
        self.rows = torch.arange(len(maker.split.sound_classes)) if rows is None else rows

    def __call__(self, places: Tensor) -> tuple[Inputs, Tensor]:
        """Inputs with some modalities left out, and the digits."""
        rows = self.rows[places]
        digits = self.maker.split.sound_classes[rows]
        inputs = {name: self.maker.batch(name, digits, drawn_severity(len(rows))) for name in self.names}
        return drop_modalities(inputs, LEFT_OUT), _goals(digits)


class BundleStage(ClassifierStage):
    """The decision of all present modalities is taught, and that of each by itself.

    Pictures are left as they were learned alone, from twenty times as many: bundles would only wear them out.
    """

    def parameter_groups(self) -> list[dict[str, Any]]:
        taught = [value for name, value in self.network.named_parameters() if "image" not in name.split(".")]
        return [{"params": taught, "lr": self.rate}]

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        inputs, goals = self.draw(batch)
        encoded = self.network.encode(inputs)  # type: ignore[operator]
        assert encoded.fusion.votes is not None
        fused = -(goals * encoded.fusion.fused.float().log_softmax(1)).sum(1)
        alone = -(goals.unsqueeze(1) * encoded.fusion.votes.float()).sum(2)
        present = sum((inputs[name].lengths > 0).sum() for name in inputs)
        right = encoded.fusion.fused.argmax(1) == goals.argmax(1)
        # A vote that is not there is 0, so it adds nothing.
        return fused.mean() + alone.sum() / present, {"accuracy": float(right.float().mean())}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Accuracy of each modality alone, on inputs spoilt like those of training, and of all of them."""
        truth = self.held.truth
        names = list(self.held.batches[0][0])
        found = {}
        for asked in [*((name,) for name in names), tuple(names)]:
            chosen = [({name: inputs[name] for name in asked}, digits) for inputs, digits in self.held.batches]
            found["+".join(asked)] = class_figures(answers(self.network, Held(chosen)), truth).values()["accuracy"]
        score = float(self.epoch) if self.keep == "last" else float(np.mean([found[name] for name in names]))
        return found | {"score": score}


class SoundStage(BundleStage):
    """Sounds alone, and only what reads them."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        heard = [value for name, value in self.network.named_parameters() if "audio" in name.split(".")]
        return [{"params": heard, "lr": self.rate}]


def train(data: Path, out: Path, seed: int) -> None:
    """Train three seeds and the baselines in ``out``, and write ``out/checkpoint``.

    ``data`` holds the folders ``mnist``, ``fsdd`` and ``grid_s1``.

    Raises:
        DataError: one of them is missing.
    """
    words = tokenizer()
    splits = load(data, out / "cache")
    config = describe(words)
    varied = {name: Maker(split, config, words, varied=True) for name, split in splits.items()}
    plain, within = (Maker(splits[name], config, words, varied=False) for name in ("val", SENTENCES))
    held = _held(varied["val"], MODALITIES)
    pictures, sounds = _pictures(plain), _held(varied["val"], ["audio"])

    def stages(network: FusionRNN) -> list[Stage]:
        first = Schedule(epochs=PICTURE_EPOCHS, metric="score", averaging=0.99, bf16=True)
        alone = ClassifierStage(
            network, PictureDraw(varied["train"]), len(splits["train"].pictures), pictures, first,
            rate=3e-3, batch=128, name="pictures",
        )  # fmt: skip
        return [alone, *bundles(network)]

    def bundles(network: FusionRNN) -> list[Stage]:
        draws = BundleDraw(varied["train"]), BundleDraw(varied["train"], ["audio"])
        return list(_after_pictures(network, draws, held, sounds))

    def flat(network: FusionRNN) -> None:
        _flat(network)
        # Pictures have no recurrence, so what the first seed learned of them alone is taken over.
        learned = {name: value for name, value in runs[0].network.state_dict().items() if "image" in name.split(".")}
        network.load_state_dict(learned, strict=False)

    runs: list[Run] = []
    notes: dict[str, Any] = {"baselines": {"always the same": {"accuracy": 0.1}}}
    for run in train_seeds(config.network, stages, held, out, range(seed, seed + SEEDS)):
        runs.append(run)
        if run is max(runs, key=lambda one: one.accuracy):
            _publish(data, out, runs, (plain, within), words, notes)
    for run in train_seeds(config.network, bundles, held, out / "no-recurrence", [seed], prepare=flat):
        found, _, _ = measured(run.network, plain, BUNDLES)
        notes["baselines"]["no recurrence"] = {
            name: {"accuracy": value["accuracy"]} for name, value in found["figures"].items()
        }
    notes["unheard_speakers"] = _unheard_speakers(splits, config, words, out / "speakers", seed)
    _publish(data, out, runs, (plain, within), words, notes)


def remeasured(folder: Path, data: Path, cache: Path) -> dict[str, Any]:
    """The figures of a shipped checkpoint, from the same media and chance as when it was published.

    Raises:
        DataError: a data set is missing.
    """
    checkpoint = load_checkpoint(folder)
    assert checkpoint.tokenizer is not None
    splits = load(data, cache)
    plain, within = (
        Maker(splits[name], checkpoint.config, checkpoint.tokenizer, varied=False) for name in ("val", SENTENCES)
    )
    found, _, _ = measured(checkpoint.network, plain, BUNDLES)
    return {**found["figures"], **_every(checkpoint.network, plain, within)}


def _every(network: FusionRNN, plain: Maker, within: Maker) -> dict[str, Any]:
    """Figures on every held-back medium once, on the pictures on pages, on print, and on sounds out of sentences."""
    split = plain.split
    return (
        singles(network, plain)
        | within_sentences(network, within)
        | on_pages(network, plain.ink, split.pictures, split.picture_classes)
        | {"printed, unseen faces": seen(network, *printed(UNSEEN))}
    )


def _after_pictures(
    network: FusionRNN, draws: tuple[BundleDraw, BundleDraw], held: Held, sounds: Held
) -> list[BundleStage]:
    """Bundles twice, then sounds alone; ``draws`` and what chooses the epoch are of bundles and of sounds."""

    def schedule(epochs: int) -> Schedule:
        return Schedule(epochs=epochs, metric="score", averaging=0.99, patience=epochs, bf16=True)

    bundles, alone = draws
    count = len(bundles.rows)
    return [
        *(
            BundleStage(network, bundles, count, held, schedule(EPOCHS), rate=2e-3, batch=64, name=name)
            for name in ("bundles", "bundles-2")
        ),
        SoundStage(network, alone, count, sounds, schedule(SOUND_EPOCHS), rate=3e-3, batch=64, name="sounds"),
    ]


def _publish(
    data: Path, out: Path, runs: list[Run], makers: tuple[Maker, Maker], words: TextTokenizer, notes: dict[str, Any]
) -> None:
    """Write the best of the networks trained so far, with what is known of it."""
    plain, within = makers
    best = max(runs, key=lambda run: run.accuracy)
    found, spoilt, digits = measured(best.network, plain, BUNDLES)
    truth = digits.numpy()
    # One temperature for bundles of all four, which are hardly ever wrong, and for single media, which often are.
    calibrated = calibrate(np.concatenate(list(spoilt)), np.tile(truth, len(spoilt)))
    metrics = {
        "dataset": "mnist+fsdd+grid_s1",
        "split": f"val (of mnist {len(plain.split.pictures)} pictures of train)",
        "n": len(truth),
        "command": train_command("digits", data, out, runs[0].seed),
        "seed": best.seed,
        "figures": found.pop("figures") | _every(best.network, plain, within),
        "seeds": {
            "accuracy": over_seeds([run.accuracy for run in runs]),
            "of": [run.seed for run in runs],
            "minutes": [minutes(out / f"seed-{run.seed}") for run in runs],
        },
        "calibration": calibrated.note,
        **found,
        **notes,
    }
    config = describe(words, calibrated.heat)
    publish(out, config, best.network, metrics, spoilt[0], truth, words, card=card)


def _unheard_speakers(
    splits: dict[str, Split], config: CheckpointConfig, words: TextTokenizer, out: Path, seed: int
) -> dict[str, Any]:
    """How well each speaker's recordings are recognized by a network that has not heard the speaker."""
    found: dict[str, Any] = {}
    maker = Maker(splits["train"], config, words, varied=True)
    clean = Maker(splits["train"], config, words, varied=False)
    speakers = np.array(splits["train"].speakers)
    heard = config.network.model_copy(update={"encoders": {"audio": config.network.encoders["audio"]}})
    for speaker in sorted(set(speakers)):
        rows = torch.from_numpy(np.flatnonzero(speakers != speaker))
        others = torch.from_numpy(np.flatnonzero(speakers == speaker))
        classes = splits["train"].sound_classes[others]
        held = Held([({"audio": pad([clean.sound(int(row), 0.0) for row in others])}, classes)])
        stages = partial(_last_stages, draw=BundleDraw(maker, ["audio"], rows), held=held)
        run = next(train_seeds(heard, stages, held, out / speaker, [seed]))
        found[speaker] = round(run.accuracy, 4)
    return found | {"mean": round(float(np.mean(list(found.values()))), 4)}


def _last_stages(network: FusionRNN, draw: BundleDraw, held: Held) -> list[Stage]:
    """Sounds as the shipped network learns them. Last epochs are kept: the speaker left out must not choose."""
    stages = _after_pictures(network, (draw, draw), held, held)
    for stage in stages:
        stage.keep = "last"
    return list(stages)


def _flat(network: FusionRNN) -> None:
    for name in ("audio", "text", "video"):
        without_recurrence(network, name)


def _held(maker: Maker, names: Sequence[str]) -> Held:
    """Bundles spoilt like those of training, for choosing the epoch."""
    batches = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for digits in torch.split(torch.arange(CHOOSING) % 10, 50):
            levels = drawn_severity(len(digits))
            batches.append(({name: maker.batch(name, digits, levels) for name in names}, digits))
    return Held(batches)


def _pictures(plain: Maker) -> Held:
    classes = plain.split.picture_classes
    parts = torch.split(torch.arange(len(classes)), 250)
    return Held([({"image": pad([plain.picture(int(row), 0.0) for row in part])}, classes[part]) for part in parts])


def _goals(digits: Tensor) -> Tensor:
    return F.one_hot(digits, len(DIGITS)).float()
