"""A small causal classifier of sound."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.network import FusionRNN
from models.pipeline import Pipeline


def save_words(folder: Path, labels: Sequence[str], *, fusion: dict[str, Any], rate: int = 16_000) -> Pipeline:
    """Save one with random weights, whose features are of sound at ``rate`` Hz."""
    config = CheckpointConfig.model_validate(
        {
            "name": "words",
            "version": "0.0.1",
            "task": "classification",
            "description": "Random weights, for tests.",
            "labels": list(labels),
            "modalities": {"audio": {"features": {"type": "log-mel", "n_mels": 16, "sample_rate": rate}}},
            "network": {
                "encoders": {
                    "audio": {
                        "type": "audio-rnn", "bands": 16, "channels": [4], "strides": [4], "hidden": 8, "causal": True,
                    },
                },
                "fusion": fusion,
                "head": {"type": "classification", "classes": len(labels)},
            },
        }
    )  # fmt: skip
    torch.manual_seed(0)
    network = FusionRNN(config.network).eval()
    with torch.no_grad():
        network.head.output.weight.mul_(10)  # type: ignore[union-attr, operator]
    save_checkpoint(folder, config, network, None)
    return Pipeline.load(folder)
