"""``captioner``: photos to English and Chinese captions, trained on Flickr8k and Flickr8k-CN.

Three stages: cross-entropy on a frozen CNN, then the CNN's upper blocks too, then self-critical training on CIDEr-D
(Rennie et al. 2017) with the mean of a photo's other samples as baseline (Luo 2020). The weights that are kept are the
mean of the last two stages'. The CNN's lower blocks stay as they are, so their output is computed once for a few views
of each photo and read from disk ever after.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.encoders.image import MobileNetConfig, PhotoEncoder
from models.features.text import TextTokenizer
from models.heads.captioning import CaptioningHead
from models.network import FusionRNN
from models.training.curves import draw_curves
from models.training.manifest import DataError
from models.training.recipes.captioner.data import IMAGE_SIZE, LANGUAGES, CaptionData
from models.training.recipes.captioner.stages import CrossEntropyStage, SelfCriticalStage, mean_of
from models.training.trainer import Schedule, Stage, Trainer


def describe(tokenizer: TextTokenizer, **head: Any) -> CheckpointConfig:
    """The checkpoint's config; ``head`` overrides the head's settings, for the baselines."""
    return CheckpointConfig.model_validate(
        {
            "name": "captioner",
            "version": "1.1.0",
            "task": "captioning",
            "description": "Describes photos, or a short video, in one English or Chinese sentence.",
            "modalities": {
                "image": {"required": True, "max_items": 8, "features": {"type": "pixels", "size": IMAGE_SIZE}}
            },
            "network": {
                "encoders": {"image": {"type": "mobilenet-v2", "width": 512, "dropout": 0.2}},
                "fusion": {"type": "concat", "width": 512},
                "head": {"type": "captioning", "languages": LANGUAGES, "vocabulary": tokenizer.size, "dropout": 0.4}
                | head,
            },
            "defaults": {"language": "en", "beam_size": 3, "max_length": 20, "length_penalty": 0.7, "no_repeat": 3},
        }
    )


def build(data_folder: Path, out: Path, weights: Path, **head: Any) -> tuple[FusionRNN, CaptionData, CheckpointConfig]:
    """The network with ImageNet weights in its CNN, and the data it trains on."""
    start = PhotoEncoder(MobileNetConfig())
    imagenet = {name: value.float() for name, value in load_file(weights).items() if not name.startswith("classifier")}
    start.cnn.load_state_dict(imagenet)
    data = CaptionData(data_folder, out / "cache", start)
    config = describe(data.tokenizer, **head)
    model = FusionRNN(config.network)
    encoder, writer = model.encoders["image"], model.head
    assert isinstance(encoder, PhotoEncoder)
    assert isinstance(writer, CaptioningHead)
    encoder.cnn.load_state_dict(imagenet)
    writer.spoken.copy_(data.spoken())
    return model, data, config


def stages(model: FusionRNN, data: CaptionData, out: Path) -> list[Stage]:
    """The recipe."""
    return [
        CrossEntropyStage("cross-entropy", model, data, Schedule(epochs=3, metric="score", bf16=True), rate=1e-3),
        CrossEntropyStage(
            "fine-tune", model, data, Schedule(epochs=9, metric="score", bf16=True), rate=7e-4, cnn_rate=1e-4
        ),
        SelfCriticalStage(
            model, data, Schedule(epochs=8, metric="score", clip=0.5, bf16=True), out / "fine-tune.pt", rate=6e-5
        ),
    ]


BASELINES: dict[str, dict[str, Any]] = {
    "mean": {"attend": "mean"},
    "elman": {"cell": "elman"},
    "gru": {"cell": "gru"},
}
"""Decoders that the shipped one is compared with, after the recipe's first stage: what of its head is changed."""


def train(data_folder: Path, out: Path, seed: int, *, baseline: str | None = None) -> None:
    """Train in ``out``, resuming what is there, and write the checkpoint folder ``out/checkpoint``.

    The CNN starts from ``mobilenet_v2/imagenet.safetensors`` beside the data folder. ``out/stages`` gets a checkpoint
    folder of each stage's best weights, to measure what it brought. A ``baseline`` stops after the first stage.

    Raises:
        DataError: the data or the CNN's weights are missing.
    """
    weights = data_folder.parent / "mobilenet_v2" / "imagenet.safetensors"
    if not weights.is_file():
        raise DataError(f"{weights} does not exist: put MobileNetV2's ImageNet weights beside the data folder")
    torch.manual_seed(seed)
    model, data, config = build(data_folder, out, weights, **(BASELINES[baseline] if baseline else {}))
    planned = stages(model, data, out)
    planned = planned[:1] if baseline else planned
    Trainer(model, planned, out, seed=seed).run()
    for stage in planned:
        model.load_state_dict(torch.load(out / f"{stage.name}.pt", weights_only=True))
        save_checkpoint(out / "stages" / stage.name, config, model, data.tokenizer)
    if not baseline:
        trained = torch.load(out / "self-critical.pt", weights_only=True)
        model.load_state_dict(mean_of(trained, torch.load(out / "fine-tune.pt", weights_only=True)))
    draw_curves(out / "log.jsonl", out / "curves.png")
    save_checkpoint(out / "checkpoint", config, model, data.tokenizer)
