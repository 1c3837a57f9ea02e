"""The picture of what an encoder with attention pooling attends to, over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.encoders.audio import AudioRNN
from models.network import FusionRNN


@torch.inference_mode()
def attention(encoder: AudioRNN, frames: Tensor) -> Tensor:
    """Weights [ceil(T / stride)], which sum to 1, of the encoder's outputs for log-mel frames [T, bands]."""
    output = encoder(frames.unsqueeze(0), torch.tensor([len(frames)]))
    return encoder.rnn.pooling.scores(output.sequence)[0].softmax(0)


def draw_attention(network: FusionRNN, sounds: Sequence[tuple[str, Tensor]], hop: float, picture: Path) -> None:
    """Write a PNG of titled spectrograms [T, bands], one frame every ``hop`` seconds, each under its weights."""
    from matplotlib.figure import Figure

    encoder = network.encoders["audio"]
    assert isinstance(encoder, AudioRNN)
    figure = Figure(figsize=(3 * len(sounds), 3.5), layout="constrained")
    axes = figure.subplots(2, len(sounds), sharex="col", squeeze=False, height_ratios=(1, 2))
    for (above, below), (title, frames) in zip(axes.T, sounds, strict=True):
        weights = attention(encoder, frames)
        seconds = len(frames) * hop
        above.stairs(weights.numpy(), np.linspace(0, seconds, len(weights) + 1), fill=True)
        above.set_title(title)
        above.set_yticks([])
        below.imshow(frames.numpy().T, origin="lower", aspect="auto", extent=(0, seconds, 0, frames.shape[1]))
        below.set_xlabel("seconds")
        below.set_yticks([])
    axes[0, 0].set_ylabel("attention")
    axes[1, 0].set_ylabel("log-mel")
    figure.savefig(picture, dpi=100)
