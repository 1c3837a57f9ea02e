"""The lips encoder's front end: what it sees of a clip, and what it does not."""

import pytest
import torch
from torch import Tensor, nn

from models.encoders.lips import LipsCNN, LipsRNN, LipsRNNConfig, standardized
from models.features.mouth import MouthFeatures

CONFIG = LipsRNNConfig(height=12, width=16, channels=(4, 6), vector=8, hidden=6)


def encoder() -> LipsRNN:
    torch.manual_seed(0)
    return LipsRNN(CONFIG).eval()


def clip(frames: int = 7) -> Tensor:
    return torch.randint(60, 120, (1, frames, 12, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_the_first_convolution_is_one_over_time_height_and_width() -> None:
    torch.manual_seed(0)
    cnn = LipsCNN(CONFIG)
    first = cnn.layers[0]
    assert isinstance(first, nn.Conv2d)
    x, lengths = clip(), torch.tensor([7])
    literal = nn.Conv3d(1, 4, 5, (1, 2, 2), 2)
    literal.load_state_dict({"weight": first.weight.unsqueeze(1), "bias": first.bias})
    maps = literal(standardized(x, torch.ones(1, 7, dtype=torch.bool)).unsqueeze(1)).squeeze(0).transpose(0, 1)
    rest = cnn.project(cnn.layers[1:](maps).flatten(1)).relu()
    torch.testing.assert_close(cnn(x, lengths)[0], rest)


def test_neither_light_nor_a_files_range_matters() -> None:
    x, lengths = clip(), torch.tensor([7])
    brighter = (x.int() * 2 + 10).byte()
    torch.testing.assert_close(encoder()(brighter, lengths).sequence, encoder()(x, lengths).sequence)


def test_a_flat_clip_stays_flat() -> None:
    real = torch.ones(1, 5, dtype=torch.bool)
    assert (standardized(torch.full((1, 5, 12, 16), 128, dtype=torch.uint8), real) == 0).all()


def test_sizes_are_the_features_and_large_enough() -> None:
    with pytest.raises(ValueError, match="reads frames of 12 x 16 pixels, and the features have 48 x 64"):
        CONFIG.check(MouthFeatures())
    with pytest.raises(ValueError, match="4 convolutions that halve the sides"):
        LipsRNNConfig(height=12, width=16)
    with pytest.raises(ValueError, match="bidirectional"):
        LipsRNNConfig.model_validate({"bidirectional": False})


def test_a_causal_encoder_gives_in_chunks_what_it_gives_in_one_go() -> None:
    torch.manual_seed(0)
    live = LipsRNN(CONFIG.model_copy(update={"causal": True, "bidirectional": False})).eval()
    x = clip(11)
    whole = live(x, torch.tensor([11]))
    state, parts = live.initial_state(1), []
    for start, end in ((0, 1), (1, 3), (3, 9), (9, 11)):
        part, state = live.step(x[:, start:end], state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), whole.sequence)
    assert torch.equal(state["seen"], whole.state["seen"])
    assert state["seen"].dtype == torch.uint8


def test_a_causal_encoder_does_not_see_what_follows() -> None:
    torch.manual_seed(0)
    live = LipsRNN(CONFIG.model_copy(update={"causal": True, "bidirectional": False})).eval()
    x = clip(9)
    other = torch.cat([x[:, :6], 255 - x[:, 6:]], 1)
    length = torch.tensor([9])
    torch.testing.assert_close(live(x, length).sequence[:, :6], live(other, length).sequence[:, :6])
