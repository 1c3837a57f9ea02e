"""Small things that many tests build: a tiny random captioner, and media made on the spot."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.features.features import Features
from models.features.text import TextTokenizer
from models.heads import CaptioningHead
from models.network import FusionRNN

ENGLISH = ("a", "dog", "runs", "in", "the", "snow", "on", "grass")
CHINESE = tuple("一只小狗在雪地里跑")


def noticed(features: Features, media: list[Any]) -> list[str]:
    """What ``features`` notice about decoded media."""
    tokenizer = tiny_tokenizer()
    return features.notices(media, features.extract(media, tokenizer), tokenizer)


def tiny_tokenizer() -> TextTokenizer:
    """Seventeen words in two languages."""
    return TextTokenizer.build([*ENGLISH, *CHINESE], ["en", "zh"])


def tiny_config(name: str = "captioner", **head: object) -> CheckpointConfig:
    """A captioner with a small decoder behind the real CNN."""
    return CheckpointConfig.model_validate(
        {
            "name": name,
            "version": "0.0.1",
            "task": "captioning",
            "description": "Random weights, for tests.",
            "modalities": {"image": {"required": True, "max_items": 4, "features": {"type": "pixels", "size": 64}}},
            "network": {
                "encoders": {"image": {"type": "mobilenet-v2", "width": 16}},
                "fusion": {"type": "concat", "width": 16},
                "head": {
                    "type": "captioning",
                    "languages": ["en", "zh"],
                    "vocabulary": tiny_tokenizer().size,
                    "hidden": 24,
                    "embedding": 12,
                    "attention": 8,
                }
                | head,
            },
            "defaults": {"max_length": 8},
        }
    )


def tiny_network(config: CheckpointConfig, seed: int = 0) -> FusionRNN:
    """Random weights, the same for the same seed; each language may write only its own words."""
    torch.manual_seed(seed)
    network = FusionRNN(config.network).eval()
    tokenizer = tiny_tokenizer()
    assert isinstance(network.head, CaptioningHead)
    network.head.spoken.zero_()
    for row, words in enumerate((ENGLISH, CHINESE)):
        network.head.spoken[row, [tokenizer.end, *tokenizer.encode(" ".join(words))]] = 1
    return network


def tiny_captioner(folder: Path, name: str = "captioner", **head: object) -> Path:
    """Save a tiny random captioner as a checkpoint folder."""
    config = tiny_config(name, **head)
    save_checkpoint(folder, config, tiny_network(config), tiny_tokenizer())
    return folder


def photo(width: int = 96, height: int = 72, seed: int = 0) -> Image.Image:
    """A smooth coloured picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def framed_photo() -> bytes:
    """``photo`` between two black bars, as PNG: what is cut off and noticed as ``borders``."""
    picture, file = Image.new("RGB", (60, 80)), io.BytesIO()
    picture.paste(photo(60, 40), (0, 20))
    picture.save(file, "PNG")
    return file.getvalue()


def encoded_photo(kind: str = "JPEG", **kwargs: Any) -> bytes:
    """``photo`` as a file of a format."""
    file = io.BytesIO()
    photo().save(file, kind, **kwargs)
    return file.getvalue()
