"""How well digits are recognized: each modality alone and all together, clean and spoilt."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.network import FusionRNN
from models.sequence import Padded, pad
from models.training.metrics.classes import calibrated_figures
from models.training.recipes.classifier import Held, answers
from models.training.recipes.digits.data import MODALITIES, Maker

HALVINGS = 6
"""How often the range of severities is halved to find the wanted one."""
WANTED = 0.775
"""Accuracy of a modality alone at the severity that is chosen for it: the middle of 70 to 85 %."""
BATCH = 100


def bundles(maker: Maker, digits: Tensor, severity: Mapping[str, float], seed: int) -> list[dict[str, Padded]]:
    """Batches of bundles of all modalities in ``severity``, made by the chance of ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return [
            {name: maker.batch(name, part, torch.full((len(part),), level)) for name, level in severity.items()}
            for part in torch.split(digits, BATCH)
        ]


def asked(network: FusionRNN, batches: Sequence[dict[str, Padded]], digits: Tensor, names: Sequence[str]) -> Any:
    """Probabilities [N, 10] when only the modalities ``names`` of each bundle are posted."""
    chosen = [{name: batch[name] for name in names} for batch in batches]
    return answers(network, Held(list(zip(chosen, torch.split(digits, BATCH), strict=True))))


def accuracy(probabilities: NDArray[np.float64], digits: Tensor) -> float:
    """Share of right answers."""
    return float((probabilities.argmax(1) == digits.numpy()).mean())


def severities(network: FusionRNN, maker: Maker, digits: Tensor) -> dict[str, float]:
    """For each modality the severity at which it alone is right about 77.5 % of the time."""
    found = {}
    for name in MODALITIES:
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            right = accuracy(asked(network, bundles(maker, digits, {name: middle}, 1), digits, [name]), digits)
            low, high = (middle, high) if right > WANTED else (low, middle)
        found[name] = (low + high) / 2
    return found


def measured(network: FusionRNN, maker: Maker, count: int) -> tuple[dict[str, Any], NDArray[np.float64], Tensor]:
    """Figures, and the answers [5, N, 10] to spoilt media of digits [N]: of all four modalities, then of each alone.

    The severities are chosen on other bundles of the same media than those that are measured.
    """
    digits = torch.arange(count) % 10
    truth = digits.numpy()
    chosen = severities(network, maker, digits)
    clean = bundles(maker, digits, dict.fromkeys(MODALITIES, 0.0), 2)
    spoilt = bundles(maker, digits, chosen, 3)
    found: dict[str, Any] = {}
    for kind, batches in (("clean", clean), ("spoilt", spoilt)):
        for name in MODALITIES:
            found[f"{name}, {kind}"] = calibrated_figures(asked(network, batches, digits, [name]), truth)
        found[f"all four, {kind}"] = calibrated_figures(asked(network, batches, digits, MODALITIES), truth)
    together = asked(network, spoilt, digits, MODALITIES)
    alone = [asked(network, spoilt, digits, [name]) for name in MODALITIES]
    best = max(found[f"{name}, spoilt"]["accuracy"][0] for name in MODALITIES)
    errors = (1 - accuracy(together, digits)) / max(1 - best, 1e-9)
    return (
        {"figures": found, "severity": chosen, "errors_of_all_to_best_single": round(errors, 4)},
        np.stack([together, *alone]),
        digits,
    )


def singles(network: FusionRNN, maker: Maker) -> dict[str, Any]:
    """Figures on every held-back picture, recording and clip once, as they are."""
    split = maker.split
    each = {
        "image": (maker.picture, split.picture_classes),
        "audio": (maker.sound, split.sound_classes),
        "video": (maker.clip, split.lip_classes),
    }
    found = {}
    for name, (make, classes) in each.items():
        rows = torch.split(torch.arange(len(classes)), BATCH)
        batches = [{name: pad([make(int(row), 0.0) for row in part])} for part in rows]
        found[f"{name}, every held-back one"] = calibrated_figures(
            asked(network, batches, classes, [name]), classes.numpy()
        )
    return found


def within_sentences(network: FusionRNN, maker: Maker) -> dict[str, Any]:
    """Figures of digits out of sentences, which are the sounds of ``maker``."""
    classes = maker.split.sound_classes
    sounds = {"audio": pad([maker.sound(row, 0.0) for row in range(len(classes))])}
    probabilities = answers(network, Held([(sounds, classes)]))
    return {"audio out of sentences, every held-back one": calibrated_figures(probabilities, classes.numpy())}


def seen(network: FusionRNN, pictures: Tensor, classes: Tensor) -> dict[str, Any]:
    """Figures of grey pictures uint8 [N, 28, 28] of digits int64 [N]."""
    frames = [picture.expand(1, 3, -1, -1) for picture in pictures]
    batches = [
        ({"image": pad(frames[start : start + BATCH])}, classes[start : start + BATCH])
        for start in range(0, len(frames), BATCH)
    ]
    return calibrated_figures(answers(network, Held(batches)), classes.numpy())
