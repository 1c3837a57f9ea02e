"""An encoder and what it reads must agree, which is found out before a network is built."""

from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from models.config import CheckpointConfig
from models.features.text import TextTokenizer
from models.network import FusionRNN
from tests.support import tiny_tokenizer


def classifier(modality: str, features: dict[str, Any], encoder: dict[str, Any]) -> CheckpointConfig:
    return CheckpointConfig.model_validate(
        {
            "name": "classifier",
            "version": "0.0.1",
            "task": "classification",
            "description": "Random weights, for tests.",
            "labels": ["yes", "no"],
            "modalities": {modality: {"features": features}},
            "network": {
                "encoders": {modality: encoder},
                "fusion": {"type": "concat", "width": 4},
                "head": {"type": "classification", "classes": 2},
            },
        }
    )


@pytest.mark.parametrize(
    ("modality", "features", "encoder", "reason"),
    [
        ("audio", {"type": "log-mel", "n_mels": 40}, {"type": "audio-rnn"}, "64 bands, and the features have 40"),
        (
            "text",
            {"type": "vectors", "size": 3},
            {"type": "vectors-rnn", "size": 4},
            "4 numbers, and the features have 3",
        ),
        ("video", {"type": "frames", "colours": "grey"}, {"type": "video-rnn"}, "3 planes, and the features have 1"),
        ("video", {"type": "pixels"}, {"type": "video-mean", "planes": 1}, "1 planes, and the features have 3"),
        ("audio", {"type": "log-mel"}, {"type": "text-rnn", "vocabulary": 9}, "reads tokens, not the 'log-mel'"),
    ],
)
def test_sizes_that_disagree_are_refused(
    modality: str, features: dict[str, Any], encoder: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        classifier(modality, features, encoder)


def test_a_text_encoders_vocabulary_is_its_tokenizers(tmp_path: Path) -> None:
    config = classifier("text", {"type": "tokens"}, {"type": "text-bag", "vocabulary": tiny_tokenizer().size})
    network = FusionRNN(config.network)
    save_checkpoint(tmp_path, config, network, tiny_tokenizer())
    assert load_checkpoint(tmp_path).tokenizer is not None
    save_checkpoint(tmp_path, config, network, TextTokenizer.build(["a"]))
    with pytest.raises(CheckpointError, match="has 4 tokens, but the 'text-bag' encoder takes"):
        load_checkpoint(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="missing, which the 'text-bag' encoder needs"):
        load_checkpoint(tmp_path)
