"""Encoders in bfloat16 hand on float32 that is near what they gave before."""

import pytest
import torch

import models.encoders  # noqa: F401  registers them
from models.registry import ENCODERS
from models.runtime.autocast import in_bfloat16


@pytest.mark.parametrize("cell", ["elman", "gru", "lstm"])
@torch.no_grad()
def test_an_encoder_computes_in_bfloat16_and_answers_in_float32(cell: str) -> None:
    torch.manual_seed(0)
    config = ENCODERS.parse({"type": "audio-rnn", "cell": cell})
    encoder = ENCODERS.build(config).eval()
    x, lengths = torch.randn(2, 40, 64), torch.tensor([40, 25])
    expected = encoder(x, lengths)
    assert in_bfloat16(encoder, "cpu") == "bfloat16 by autocast"
    found = encoder(x, lengths)
    assert torch.equal(found.lengths, expected.lengths)
    for name in ("sequence", "pooled"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == torch.float32
        assert 0 < (one - other).norm() / other.norm() < 0.05
    assert all(value.dtype == torch.float32 for value in found.state.values())
