"""``voice-commands``: one of ten spoken commands, silence or another word; causal, so that it can follow a stream."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.checkpoint import load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.features.audio import AudioFeatures
from models.network import FusionRNN
from models.pipeline import Pipeline
from models.training.calibration import calibrate, scaled
from models.training.commands import train_command
from models.training.evaluation.answers import answered
from models.training.evaluation.examples import read_examples
from models.training.metrics.classes import calibrated_figures, expected_calibration_error
from models.training.novelty import learn_novelty
from models.training.recipes.attention import draw_attention
from models.training.recipes.cards.voice_commands import card
from models.training.recipes.classifier import (
    ClassifierStage,
    Held,
    Run,
    always,
    answers,
    minutes,
    over_seeds,
    publish,
    train_seeds,
    without_recurrence,
)
from models.training.recipes.recordings import Samples, recordings
from models.training.recipes.voice_commands.sounds import (
    COMMANDS,
    LABELS,
    RATE,
    SILENCE,
    UNKNOWN,
    Draw,
    Sounds,
    load,
    load_talk,
)
from models.training.recipes.waveforms import (
    Waveforms,
    in_a_room,
    log_mel,
    placed,
    speed,
)
from models.training.trainer import Schedule

SEEDS = 3
EPOCHS = 80
FEATURES: dict[str, Any] = {"type": "log-mel", "sample_rate": RATE, "n_mels": 40, "mean": -6.0, "std": 4.0}
SHOWN = ("yes", "stop", "unknown")
"""Classes of which the picture of attention shows the first validation word, placed in two seconds."""
POSTED = 6
"""Every sixth validation word is also posted as other kinds of files."""
TRUST_IN_TALK = 0.7
"""The exponent q of the loss for talk: 0 would be cross-entropy, and 1 the mean absolute error."""
MOST_FALSE_ACCEPTS = 0.05
"""The share of unknown words that may pass for a command at the threshold that the card names."""


def describe(heat: float | None = None) -> CheckpointConfig:
    """The checkpoint's config."""
    encoder = {
        "type": "audio-rnn", "bands": 40, "channels": [24, 40, 56], "strides": [2, 2, 1], "kernel": 5, "causal": True,
        "cell": "gru", "hidden": 128, "pooling": "attention", "dropout": 0.1,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": "voice-commands",
            "version": "1.3.0",
            "task": "classification",
            "description": "Which of ten English commands is spoken, if any; it can follow a stream.",
            "modalities": {"audio": {"required": True, "features": FEATURES}},
            "network": {
                "encoders": {"audio": encoder},
                "fusion": {"type": "concat", "width": 64},
                "head": {"type": "classification", "classes": len(LABELS), "dropout": 0.1},
            },
            "labels": list(LABELS),
            "defaults": {} if heat is None else {"temperature": heat},
        }
    )


class CommandStage(ClassifierStage):
    """Cross-entropy, but for sounds cut out of talk the generalized one (the L_q loss of Zhang and Sabuncu 2018).

    Nobody has written down what is said there, and some of it are commands. (1 - p^q) / q of the probability p of an
    unknown word asks the less for it the surer the network is that it hears something else.
    """

    def __init__(self, network: FusionRNN, draw: Draw, count: int, held: Held, schedule: Schedule) -> None:
        self.heard = draw
        super().__init__(network, lambda rows: draw(rows)[:2], count, held, schedule, rate=3e-3, batch=64)

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        inputs, goals, talk = self.heard(batch)
        logits = self.network(inputs).float()
        plain = F.cross_entropy(logits, goals, reduction="none")
        unknown = logits.log_softmax(1)[:, UNKNOWN]
        robust = (1 - (TRUST_IN_TALK * unknown).exp()) / TRUST_IN_TALK
        right = logits.argmax(1) == goals.argmax(1)
        return torch.where(talk, robust, plain).mean(), {"accuracy": float(right.float().mean())}


def train(data: Path, out: Path, seed: int) -> None:
    """Train three seeds and the baseline without recurrence in ``out``, and write ``out/checkpoint``.

    Raises:
        DataError: the data, or ``esc10``, ``fsdd`` or ``talk`` beside them, are missing.
    """
    sounds = load(data, out / "cache")
    config = describe()
    features = config.modalities["audio"].features
    assert isinstance(features, AudioFeatures)
    held = _held(features, sounds.val, list(range(len(sounds.val))), sounds.val_classes)
    draw = Draw(sounds, load_talk(data, out / "cache"), features)
    strange = _strange(features, sounds)
    most = Counter(sounds.train_classes.tolist()).most_common(1)[0][0]

    def stages(network: FusionRNN) -> list[ClassifierStage]:
        schedule = Schedule(
            epochs=EPOCHS, metric="score", averaging=0.995, patience=EPOCHS, bf16=True, weight_decay=1e-2
        )
        return [CommandStage(network, draw, len(sounds.train), held, schedule)]

    runs: list[Run] = []
    baselines = {f"always '{LABELS[most]}'": {"accuracy": always(most, held.truth)}}
    for run in train_seeds(config.network, stages, held, out, range(seed, seed + SEEDS)):
        runs.append(run)
        _publish(data, out, runs, held, strange, sounds, baselines)
    plain = partial(without_recurrence, modality="audio")
    for run in train_seeds(config.network, stages, held, out / "no-recurrence", [seed], prepare=plain):
        baselines["no recurrence"] = {"accuracy": round(run.accuracy, 4)}
        _publish(data, out, runs, held, strange, sounds, baselines)
    learn_novelty(out / "checkpoint", [data])


def _publish(
    data: Path,
    out: Path,
    runs: list[Run],
    held: Held,
    strange: Mapping[str, Held],
    sounds: Sounds,
    baselines: dict[str, dict[str, float]],
) -> None:
    """Write the sturdiest of the networks trained so far, with what is known of it."""
    best = _sturdiest(runs, out, sounds)
    calibrated = calibrate(best.probabilities, held.truth)
    config = describe(calibrated.heat)
    # Measured from its folder: what is served reads files as they are, not rounded to 16 bits as training keeps them.
    save_checkpoint(out / "checkpoint", config, best.network)
    served, truth = served_answers(out / "checkpoint", data)
    heard = {name: scaled(answers(best.network, each), calibrated.heat) for name, each in strange.items()}
    metrics = {
        "dataset": data.resolve().name,
        "split": "val",
        "n": len(truth),
        "command": train_command("voice-commands", data, out, runs[0].seed),
        "seed": best.seed,
        "figures": calibrated_figures(served, truth),
        "seeds": {
            "accuracy": over_seeds([run.accuracy for run in runs]),
            "of": [run.seed for run in runs],
            "minutes": [minutes(out / f"seed-{run.seed}") for run in runs],
        },
        "baselines": baselines,
        "calibration": calibration(served, truth, calibrated.heat),
        "false_accepts": false_accepts(calibrated.probabilities, held.truth, heard),
    }

    features = AudioFeatures.model_validate(FEATURES)
    shown = [_shown(features, sounds, LABELS.index(label)) for label in SHOWN]
    draw_attention(best.network, shown, features.hop, out / "attention.png")
    posted = partial(_posted, sounds=sounds)
    publish(out, config, best.network, metrics, served, truth, card=card, served=posted)


def served_answers(folder: Path, data: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities [N, 12] of the validation words from the checkpoint as it is served, and their classes [N]."""
    pipeline = Pipeline.load(folder)
    found = answered(pipeline, read_examples(pipeline, data, "val", None), top_k=len(LABELS))
    rows = [{each.label: each.probability for each in answer.predictions} for answer in found.answers]
    probabilities = np.array([[row[label] for label in LABELS] for row in rows])
    return probabilities, np.array([LABELS.index(label) for label in found.targets])


def calibration(served: NDArray[np.float64], truth: NDArray[np.int64], heat: float) -> dict[str, float]:
    """The temperature ``heat`` of served probabilities [N, C], and how far they are off without and with it."""
    plain = scaled(served, 1 / heat)
    before, after = (round(expected_calibration_error(each, truth), 4) for each in (plain, served))
    return {"temperature": heat, "error_before": before, "error_after": after}


def _sturdiest(runs: list[Run], out: Path, sounds: Sounds) -> Run:
    """The network that is right most often of words posted as files of all kinds; as they are, chance decides."""

    def heard(run: Run) -> float:
        folder = out / f"seed-{run.seed}" / "checkpoint"
        save_checkpoint(folder, describe(), run.network)
        rightly: float = mean(_posted(folder, sounds)["recordings"].values())
        return rightly

    return max(runs, key=heard)


def _posted(folder: Path, sounds: Sounds) -> dict[str, Any]:
    """How well the checkpoint in ``folder`` hears some validation words that are posted as files."""
    rows = range(0, len(sounds.val), POSTED)
    labels = [LABELS[int(sounds.val_classes[row])] for row in rows]
    words = [sounds.val[row].numpy() for row in rows]

    def in_a_hall(word: Samples) -> Samples:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return in_a_room(torch.from_numpy(word), RATE, 1.2, 0.0).numpy()

    def at(pace: float) -> Callable[[Samples], Samples]:
        return lambda word: speed(torch.from_numpy(word), pace).numpy()

    more = {"in a hall": in_a_hall, "a quarter faster": at(1.25), "a fifth slower": at(0.8)}
    return {"recordings": recordings(folder, words, RATE, labels, quiet=5, more=more)}


def remeasured(folder: Path, data: Path, cache: Path) -> dict[str, Any]:
    """What a shipped checkpoint takes for a command, and how it hears other recordings, measured as in training.

    Raises:
        DataError: the data, or ``esc10`` or ``fsdd`` beside them, are missing.
    """
    checkpoint, sounds = load_checkpoint(folder), load(data, cache)
    features = AudioFeatures.model_validate(FEATURES)
    heat = checkpoint.config.defaults["temperature"]
    words = _held(features, sounds.val, list(range(len(sounds.val))), sounds.val_classes)
    said = scaled(answers(checkpoint.network, words), heat)
    heard = {name: scaled(answers(checkpoint.network, held), heat) for name, held in _strange(features, sounds).items()}
    return {"false_accepts": false_accepts(said, words.truth, heard), **_posted(folder, sounds)}


def false_accepts(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], strange: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """What passes for a command when the first answer is one, from a threshold on, and how many commands then still do.

    The threshold is the lowest at which at most 5 % of the unknown words pass.

    Args:
        probabilities: of validation words [N, 12].
        strange: of sounds that are no commands [M, 12], by what they are.
    """
    commands = len(COMMANDS)
    sure = _sure(probabilities)
    unknown, spoken = truth == UNKNOWN, truth < commands
    threshold = float(np.quantile(sure[unknown], 1 - MOST_FALSE_ACCEPTS, method="higher")) + 1e-4
    right = (probabilities[:, :commands].argmax(1) == truth) & (sure >= threshold)
    shares = {
        "threshold": threshold,
        "unknown_accepted": (sure[unknown] >= threshold).mean(),
        "silence_accepted": (sure[truth == SILENCE] >= threshold).mean(),
        **{f"{name}_accepted": (_sure(heard) >= threshold).mean() for name, heard in strange.items()},
        "commands_accepted_rightly": right[spoken].mean(),
    }
    return {name: round(float(value), 4) for name, value in shares.items()}


def _sure(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How probable the first answer is where it is a command, else 0."""
    first = probabilities.argmax(1)
    return np.where(first < len(COMMANDS), probabilities.max(1), 0.0)


def _shown(features: AudioFeatures, sounds: Sounds, place: int) -> tuple[str, Tensor]:
    row = int((sounds.val_classes == place).nonzero()[0])
    return LABELS[place], log_mel(features, [placed(sounds.val[row], 2 * RATE, RATE // 2)]).values[0]


def _strange(features: AudioFeatures, sounds: Sounds) -> dict[str, Held]:
    """What is no command and was not heard in training: environmental sounds, and digits by the same speakers."""
    digits = list(range(len(sounds.measured_digits)))
    return {
        "environment": _held(features, sounds.noise, sounds.measured_rows, torch.zeros(len(sounds.noise)).long()),
        "digits": _held(features, sounds.measured_digits, digits, torch.zeros(len(digits)).long()),
    }


def _held(features: AudioFeatures, sounds: Waveforms, rows: list[int], classes: Tensor, batch: int = 64) -> Held:
    parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return Held([({"audio": log_mel(features, [sounds[row] for row in part])}, classes[part]) for part in parts])
