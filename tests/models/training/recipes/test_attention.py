"""What an encoder attends to is what its pooling weighs."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from models.encoders.audio import AudioRNN
from models.network import FusionRNN
from models.training.recipes.attention import attention, draw_attention
from models.training.recipes.voice_commands.recipe import describe


def test_the_weights_make_the_pooled_vector() -> None:
    encoder = FusionRNN(describe().network).eval().encoders["audio"]
    assert isinstance(encoder, AudioRNN)
    frames = torch.randn(41, 40)
    weights = attention(encoder, frames)
    with torch.inference_mode():
        output = encoder(frames.unsqueeze(0), torch.tensor([41]))
    assert weights.shape == (11,)
    assert float(weights.sum()) == pytest.approx(1)
    assert torch.allclose(weights @ output.sequence[0], output.pooled[0], atol=1e-5)


def test_a_picture_has_a_column_a_sound(tmp_path: Path) -> None:
    network = FusionRNN(describe().network).eval()
    for count in (1, 3):
        draw_attention(network, [("yes", torch.randn(20, 40))] * count, 0.01, tmp_path / f"{count}.png")
    with Image.open(tmp_path / "1.png") as narrow, Image.open(tmp_path / "3.png") as wide:
        assert wide.width == 3 * narrow.width
        assert len(set(wide.convert("L").tobytes())) > 20
