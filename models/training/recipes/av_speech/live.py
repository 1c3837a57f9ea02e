"""``av-speech-live``: the same words from a network that never looks ahead, so that it writes while the speaker talks.

It starts from the convolutions and the forward half of the recurrent networks of ``av-speech``. A word is asked for
``DELAY`` frames after it was said: letters of two frames are told apart by what follows them. Then ``av-speech`` itself
teaches it, by what it makes of the same spoilt sound and lips, and of other voices.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.features.mouth import MouthFeatures
from models.network import FusionRNN
from models.training.curves import draw_curves
from models.training.recipes.av_speech.data import FPS, SpeechData
from models.training.recipes.av_speech.recipe import build
from models.training.recipes.av_speech.recipe import describe as describe_whole
from models.training.recipes.av_speech.stage import SpeechStage
from models.training.recipes.av_speech.strangers import VOICES, Strangers
from models.training.trainer import Schedule, Trainer

NAME = "av-speech-live"
DELAY = 5
"""Frames of 40 ms."""
EPOCHS = 28
FRESH = 2
"""Epochs in which only what is new learns."""
TAUGHT = 50
"""Epochs with a teacher."""
MOUTH = MouthFeatures(causal=True)


def describe(data: SpeechData) -> CheckpointConfig:
    """The config of ``av-speech``, looking one way."""
    whole = describe_whole(data, ("audio", "video")).model_dump()
    whole |= {"name": NAME, "description": "Writes down GRID sentences while they are being said."}
    whole["defaults"] |= {"delay": DELAY / FPS}
    whole["modalities"]["video"]["features"]["causal"] = True
    network = whole["network"]
    for encoder in network["encoders"].values():
        encoder |= {"bidirectional": False, "causal": True}
    network["fusion"] |= {"bidirectional": False, "hidden": 256}
    return CheckpointConfig.model_validate(whole)


def train(folder: Path, out: Path, seed: int) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    ``out/av-speech`` is the checkpoint to start and learn from; without it, training starts from nothing, takes longer
    and has no teacher.

    Raises:
        DataError: the data, or with a teacher ``grid_voices`` beside them, are missing or are not GRID sentences.
        CheckpointError: ``out/av-speech`` is not a usable checkpoint.
    """
    data = SpeechData(folder, out / "cache", ("audio", "video"), MOUTH)
    torch.manual_seed(seed)
    config = describe(data)
    network = build(config, data)
    teacher = load_checkpoint(out / "av-speech").network if (out / "av-speech").is_dir() else None
    if teacher is not None:
        take_over(network, teacher)
    first, rest, last = (
        Schedule(epochs=epochs, metric="score", patience=epochs, averaging=0.99, bf16=True, weight_decay=1e-2)
        for epochs in (FRESH, EPOCHS, TAUGHT)
    )
    strangers = Strangers(folder.parent / VOICES, "train", data.tokenizer, out / "cache") if teacher else None
    stages = [
        SpeechStage("fresh", network, data, first, rate=2e-3, encoder_rate=5e-4, alike="steps", delay=DELAY),
        SpeechStage("live", network, data, rest, rate=1e-3, delay=DELAY),
        SpeechStage(
            "taught", network, data, last, rate=1e-3, delay=DELAY, teacher=teacher, varied=True, strangers=strangers
        ),
    ]
    Trainer(network, list(stages), out, seed=seed).run()
    draw_curves(out / "log.jsonl", out / "curves.png")
    save_checkpoint(out / "checkpoint", config, network, data.tokenizer)


def take_over(network: FusionRNN, whole: FusionRNN) -> None:
    """Give the encoders what they share with those of a network that looks both ways.

    Of an input that came from both directions, the weights of the forward one are kept.
    """
    given = whole.encoders.state_dict()
    mine = network.encoders.state_dict()
    taken: dict[str, Tensor] = {}
    for name, value in mine.items():
        other: Any = given.get(name)
        if other is not None and other.dim() == value.dim() and other.shape[0] == value.shape[0]:
            taken[name] = other[:, : value.shape[1]].float() if value.dim() == 2 else other.float()
    fitting = {name: value for name, value in taken.items() if value.shape == mine[name].shape}
    network.encoders.load_state_dict(fitting, strict=False)
