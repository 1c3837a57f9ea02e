"""``av-speech``: a speaker's lips, voice or both to the six words of a GRID sentence, with times.

One network a modality is trained first. The fused one starts from their encoders, so that it is no worse than either
where the other is of no use: fusion and head are taught first, then all. In half of all examples one of the two is
missing. In the end synthetic voices say GRID sentences, too, so that not only the one speaker is understood.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.features import Modality
from models.heads.transcription import TranscriptionHead
from models.network import FusionRNN
from models.training.curves import draw_curves
from models.training.recipes.av_speech.data import FPS, GRAMMAR, RATE, SpeechData
from models.training.recipes.av_speech.stage import Alike, SpeechStage
from models.training.recipes.av_speech.strangers import VOICES, Strangers
from models.training.trainer import Schedule, Stage, Trainer

ENCODERS: dict[Modality, dict[str, Any]] = {
    "audio": {
        "type": "audio-rnn",
        "channels": (16, 32),
        "cell": "lstm",
        "hidden": 128,
        "layers": 2,
        "bidirectional": True,
        "dropout": 0.1,
    },
    "video": {
        "type": "lips-rnn",
        "channels": (16, 32, 64, 128),
        "cell": "lstm",
        "hidden": 160,
        "layers": 2,
        "dropout": 0.1,
    },
}
FEATURES: dict[Modality, dict[str, Any]] = {
    "audio": {"type": "log-mel", "sample_rate": RATE, "max_seconds": 60},
    "video": {"type": "mouth", "fps": FPS, "max_seconds": 60},
}
BRANCHES: dict[str, Modality] = {"sound": "audio", "lips": "video"}
"""Networks of one modality, by name."""
EPOCHS = {"sound": (16, 14, 6), "lips": (9, 9), "fused": (1, 7, 14, 60, 35, 44)}
"""Of each stage; the rate rises again at the start of the next one (Loshchilov and Hutter 2017).

The last of them has strangers beside the speaker.
"""


def describe(data: SpeechData, modalities: tuple[Modality, ...]) -> CheckpointConfig:
    """The config of a network of one or both modalities."""
    both = len(modalities) > 1
    return CheckpointConfig.model_validate(
        {
            "name": "av-speech" if both else f"av-speech-{modalities[0]}",
            "version": "1.1.0",
            "task": "transcription",
            "description": "Writes down GRID sentences, six words of 51, from the speaker's video, the sound, or both.",
            "modalities": {name: {"features": FEATURES[name]} for name in modalities},
            "network": {
                "encoders": {name: ENCODERS[name] for name in modalities},
                # A single modality's steps are read as they are: concatenation adds none of its own.
                "fusion": {"type": "recurrent", "cell": "lstm", "hidden": 128, "bidirectional": True, "dropout": 0.1}
                if both
                else {"type": "concat", "width": 1},
                "head": {
                    "type": "transcription",
                    "vocabulary": data.tokenizer.size,
                    "blank": data.tokenizer.pad,
                    "grammar": GRAMMAR,
                },
            },
            "defaults": {"seconds_per_step": 1 / FPS, "grammar": True, "beam_size": 10},
        }
    )


def build(config: CheckpointConfig, data: SpeechData) -> FusionRNN:
    """A new network, which writes the words of the grammar and nothing else."""
    network = FusionRNN(config.network)
    assert isinstance(network.head, TranscriptionHead)
    network.head.spoken.zero_()
    network.head.spoken[[data.tokenizer.encode(word)[0] for place in GRAMMAR for word in place]] = 1
    return network


def train_branch(name: str, folder: Path, out: Path, seed: int) -> None:
    """Train ``sound`` or ``lips`` in ``out/NAME``, resuming what is there, and write its checkpoint.

    `train` does so itself; on two cores the one can be trained beside the other.
    """
    data = SpeechData(folder, out / "cache", (BRANCHES[name],))
    torch.manual_seed(seed)
    config = describe(data, (BRANCHES[name],))
    network = build(config, data)
    first, *later = (_schedule(epochs) for epochs in EPOCHS[name])
    stages: list[Stage] = [SpeechStage(name, network, data, first, rate=1.5e-3, easy=0.6, alike="steps")]
    for number, schedule in enumerate(later, 2):
        alike: Alike = "steps" if name == "lips" else "words"
        stages.append(SpeechStage(f"{name}-{number}", network, data, schedule, rate=2e-3, alike=alike))
    Trainer(network, stages, out / name, seed=seed).run()
    draw_curves(out / name / "log.jsonl", out / name / "curves.png")
    save_checkpoint(out / name / "checkpoint", config, network, data.tokenizer)


def train(folder: Path, out: Path, seed: int) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    Raises:
        DataError: the data, or ``grid_voices`` beside them, are missing or are not GRID sentences.
    """
    # Before the hours that the branches take: what is missing is said at once.
    data = SpeechData(folder, out / "cache", ("audio", "video"))
    strangers = Strangers(folder.parent / VOICES, "train", data.tokenizer, out / "cache")
    for name in BRANCHES:
        train_branch(name, folder, out, seed)
    torch.manual_seed(seed)
    config = describe(data, ("audio", "video"))
    network = build(config, data)
    for name, modality in BRANCHES.items():
        weights = load_checkpoint(out / name / "checkpoint").network.encoders[modality].state_dict()
        network.encoders[modality].load_state_dict(weights)
    first, *later, last = (_schedule(epochs) for epochs in EPOCHS["fused"])
    last = replace(last, averaging=0.995)
    stages: list[Stage] = [
        SpeechStage("fused", network, data, first, rate=2e-3, encoder_rate=0, alike="steps"),
        *(SpeechStage(f"fused-{n}", network, data, schedule, rate=1e-3) for n, schedule in enumerate(later, 2)),
        SpeechStage(
            "strangers", network, data, last, rate=1e-3, modality_dropout=0.6, varied=True, strangers=strangers
        ),
    ]
    Trainer(network, stages, out / "fused", seed=seed).run()
    draw_curves(out / "fused" / "log.jsonl", out / "curves.png")
    save_checkpoint(out / "checkpoint", config, network, data.tokenizer)


def _schedule(epochs: int) -> Schedule:
    return Schedule(epochs=epochs, metric="score", patience=epochs, averaging=0.99, bf16=True, weight_decay=1e-2)
