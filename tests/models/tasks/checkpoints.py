"""Checkpoints with small random networks, built in memory."""

from typing import Any

import torch

from models.checkpoint import Checkpoint
from models.config import CheckpointConfig
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.pipeline import Pipeline
from tests.support import tiny_tokenizer

VECTORS = {"type": "vectors", "size": 3}
PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "text": ({"type": "tokens", "max_tokens": 16}, {"type": "text-rnn", "embedding": 6, "hidden": 8}),
    "image": (VECTORS, {"type": "vectors-mean", "size": 3, "width": 5}),
    "audio": (VECTORS, {"type": "vectors-rnn", "size": 3, "hidden": 8}),
}


def described(
    task: str,
    head: dict[str, Any],
    *modalities: str,
    fusion: dict[str, Any] | None = None,
    **rest: Any,
) -> CheckpointConfig:
    """The config of a checkpoint for ``modalities``."""
    encoders = {name: dict(PARTS[name][1]) for name in modalities}
    if "text" in encoders:
        encoders["text"] |= {"vocabulary": tiny_tokenizer().size}
    return CheckpointConfig.model_validate(
        {
            "name": task,
            "version": "0.0.1",
            "task": task,
            "description": "Random weights, for tests.",
            "modalities": {name: {"features": PARTS[name][0]} for name in modalities},
            "network": {"encoders": encoders, "fusion": fusion or {"type": "concat", "width": 8}, "head": head},
            **rest,
        }
    )


def checkpoint(
    config: CheckpointConfig, tokenizer: TextTokenizer | None = None, seed: int = 0, loud: float = 1.0
) -> Checkpoint:
    """Random weights, the same for the same seed; ``loud`` multiplies the head's, so that it is surer of itself."""
    torch.manual_seed(seed)
    network = FusionRNN(config.network).eval().requires_grad_(False)
    for parameter in network.head.parameters():
        parameter.mul_(loud)
    return Checkpoint(config, network, tokenizer or tiny_tokenizer(), None, None, "")


def pipeline(config: CheckpointConfig, **settings: Any) -> Pipeline:
    """A pipeline over ``checkpoint``, on torch's own kernels."""
    return Pipeline(checkpoint(config, **settings), runtime="torch")
