"""A small live transcriber of lips and sound, at 25 steps a second."""

from pathlib import Path

import torch

from models.checkpoint import save_checkpoint
from models.features.text import TextTokenizer
from models.network import FusionRNN
from tests.models.streaming.test_transcription import WORDS, describe


def save_live(folder: Path, *, blank: float = 0.0) -> Path:
    """Save one with random weights that is sure of itself, so that there are words; fewer with more ``blank``."""
    tokenizer = TextTokenizer.build([word for place in WORDS for word in place], ["en"])
    config = describe(tokenizer)
    torch.manual_seed(3)
    network = FusionRNN(config.network).eval()
    with torch.no_grad():
        torch.nn.init.normal_(network.head.output.weight, std=4)  # type: ignore[union-attr, arg-type]
        network.head.output.bias[tokenizer.pad] += blank  # type: ignore[union-attr, index, operator]
    save_checkpoint(folder, config, network, tokenizer)
    return folder
