"""``captioner``: photos to English and Chinese captions, trained on Flickr8k and Flickr8k-CN.

Four stages: cross-entropy on a frozen CNN, then the CNN's upper blocks too, the same again from a high rate with more
captions (a warm restart, Loshchilov and Hutter 2017), then self-critical training on CIDEr-D (Rennie et al. 2017) with
the mean of a photo's other samples as baseline (Luo 2020). The network with the mean of the last two stages' weights
then teaches one that goes on from there, and the weights that are kept lie between both. The CNN's lower blocks stay as
they are, so their output is computed once for a few views of each photo and read from disk ever after.

The CNN is the one that ``image-text-embedding`` ends with: having learned which sentences belong to a photo, it already
sees what sentences speak of.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

import models
from models.checkpoint import load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.encoders.image import PhotoEncoder
from models.features.text import TextTokenizer
from models.heads.captioning import CaptioningHead
from models.network import FusionRNN
from models.training.curves import draw_curves
from models.training.novelty import learn_novelty
from models.training.recipes.averages import mean_of
from models.training.recipes.captioner.data import LANGUAGES, CaptionData
from models.training.recipes.captioner.stages import CrossEntropyStage, SelfCriticalStage
from models.training.recipes.captioner.teacher import CaptionTeacher
from models.training.trainer import Schedule, Stage, Trainer

START = Path(next(iter(models.__path__))) / "zoo" / "image-text-embedding"
"""Whose CNN it goes on with."""
SERVED_SIZE = 256
"""Pixels a side of what is served: somewhat more than of the views that are learned, most of which are crops, so that
things in them are larger (Touvron et al. 2019, "Fixing the train-test resolution discrepancy")."""
TAKEN = 0.6
"""How far the weights move from what they were before the network was taught to what they were after it."""


def describe(tokenizer: TextTokenizer, **head: Any) -> CheckpointConfig:
    """The checkpoint's config; ``head`` overrides the head's settings, for the baselines."""
    return CheckpointConfig.model_validate(
        {
            "name": "captioner",
            "version": "1.3.0",
            "task": "captioning",
            "description": "Describes photos, or a short video, in one English or Chinese sentence.",
            "modalities": {
                "image": {"required": True, "max_items": 8, "features": {"type": "pixels", "size": SERVED_SIZE}}
            },
            "network": {
                "encoders": {"image": {"type": "efficientnet-lite0", "width": 512, "dropout": 0.2}},
                "fusion": {"type": "concat", "width": 512},
                "head": {"type": "captioning", "languages": LANGUAGES, "vocabulary": tokenizer.size, "dropout": 0.4}
                | head,
            },
            "defaults": {"language": "en", "beam_size": 3, "max_length": 20, "length_penalty": 0.7, "no_repeat": 3},
        }
    )


def build(data_folder: Path, out: Path, start: Path, **head: Any) -> tuple[FusionRNN, CaptionData, CheckpointConfig]:
    """The network with the CNN of the checkpoint folder ``start``, and the data it trains on."""
    given = load_checkpoint(start).network.encoders["image"]
    assert isinstance(given, PhotoEncoder)
    data = CaptionData(data_folder, out / "cache", given)
    config = describe(data.tokenizer, **head)
    model = FusionRNN(config.network)
    encoder, writer = model.encoders["image"], model.head
    assert isinstance(encoder, PhotoEncoder)
    assert isinstance(writer, CaptioningHead)
    encoder.cnn.load_state_dict(given.cnn.state_dict())
    writer.spoken.copy_(data.spoken())
    return model, data, config


def stages(model: FusionRNN, data: CaptionData, out: Path) -> list[Stage]:
    """What the network learns by itself."""
    return [
        CrossEntropyStage("cross-entropy", model, data, _schedule(3), rate=1e-3),
        CrossEntropyStage("fine-tune", model, data, _schedule(6), rate=7e-4, cnn_rate=1.5e-4),
        CrossEntropyStage("fine-tune-again", model, data, _schedule(5), rate=5e-4, cnn_rate=1.5e-4, captions=3),
        SelfCriticalStage(model, data, _schedule(2, clip=0.5), out / "fine-tune-again.pt", rate=6e-5),
    ]


def taught_stage(model: FusionRNN, data: CaptionData) -> Stage:
    """The network is taught by what it is now."""
    teacher = CaptionTeacher(deepcopy(model), data)
    return CrossEntropyStage("taught", model, data, _schedule(4), rate=4e-4, cnn_rate=1.5e-4, teacher=teacher)


def _schedule(epochs: int, clip: float = 1.0) -> Schedule:
    return Schedule(epochs=epochs, metric="score", clip=clip, bf16=True)


BASELINES: dict[str, dict[str, Any]] = {
    "mean": {"attend": "mean"},
    "elman": {"cell": "elman"},
    "gru": {"cell": "gru"},
}
"""Decoders that the shipped one is compared with, after the recipe's first stage: what of its head is changed."""


def train(data_folder: Path, out: Path, seed: int, *, baseline: str | None = None) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    The CNN starts from the shipped ``image-text-embedding``. ``out/stages`` gets a checkpoint folder of each stage's
    best weights, to measure what it brought, and of the teacher's. A ``baseline`` stops after the first stage.

    Raises:
        DataError: the data are missing.
    """
    torch.manual_seed(seed)
    model, data, config = build(data_folder, out, START, **(BASELINES[baseline] if baseline else {}))
    planned = stages(model, data, out)
    planned = planned[:1] if baseline else planned
    Trainer(model, planned, out, seed=seed).run()
    for stage in planned:
        model.load_state_dict(torch.load(out / f"{stage.name}.pt", weights_only=True))
        save_checkpoint(out / "stages" / stage.name, config, model, data.tokenizer)
    if not baseline:
        trained = torch.load(out / "self-critical.pt", weights_only=True)
        before = mean_of(trained, torch.load(out / "fine-tune-again.pt", weights_only=True))
        model.load_state_dict(before)
        save_checkpoint(out / "stages" / "teacher", config, model, data.tokenizer)
        Trainer(model, [taught_stage(model, data)], out / "taught", seed=seed).run()
        model.load_state_dict(mean_of(before, model.state_dict(), TAKEN))
    draw_curves(out / "log.jsonl", out / "curves.png")
    save_checkpoint(out / "checkpoint", config, model, data.tokenizer)
    learn_novelty(out / "checkpoint", [data_folder])
