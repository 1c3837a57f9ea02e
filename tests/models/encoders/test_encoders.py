"""What every registered encoder must keep: padding, batch-mates and chunks change nothing, absence is finite."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models.encoders  # noqa: F401  registers them
from models.encoders.convolution import by_parts
from models.encoders.mobilenet import NETWORKS
from models.features import FEATURES
from models.registry import ENCODERS, ComponentConfig
from models.sequence import SequenceOutput

MORE: dict[str, list[dict[str, Any]]] = {
    "audio-rnn": [
        {"causal": True},
        {"causal": True, "kernel": 1, "strides": (1, 3)},
        {"causal": True, "kernel": 2, "strides": (3, 2), "layers": 2},
        {"kernel": 4, "strides": (1, 1)},
        {"channels": (), "strides": ()},
    ],
    "video-rnn": [{"planes": 1, "grid": 1}],
    "video-mean": [{"planes": 1}],
}
"""Options besides the variants of a type, where they change what is computed."""


def configured(name: str, **options: Any) -> ComponentConfig:
    """The tiny encoder of a type, with options."""
    return ENCODERS.parse(ENCODERS.config(name).tiny().model_dump() | options)


NAMES = [name for name in ENCODERS.names() if ENCODERS.config(name).__module__.startswith("models.")]
CONFIGS = [
    config
    for name in NAMES
    for config in [*ENCODERS.config(name).variants(), *(configured(name, **options) for options in MORE.get(name, []))]
]
every = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)


def built(config: ComponentConfig) -> Any:
    torch.manual_seed(0)
    return ENCODERS.build(config).eval()


def inputs(config: Any, rows: int, steps: int) -> Tensor:
    """Input of the kind that the encoder reads, without padding."""
    torch.manual_seed(1)
    match config.reads[0]:
        case "tokens":
            return torch.randint(0, config.vocabulary, (rows, steps))
        case "vectors":
            return torch.randn(rows, steps, config.size)
        case "log-mel":
            return torch.randn(rows, steps, config.bands)
        case "mouth":
            return torch.randint(0, 256, (rows, steps, config.height, config.width), dtype=torch.uint8)
        case _:
            return torch.randint(0, 256, (rows, steps, getattr(config, "planes", 3), 32, 32), dtype=torch.uint8)


def gradients(encoder: nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
    encoder.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: parameter.grad for name, parameter in encoder.named_parameters()}


def loss(output: SequenceOutput) -> Tensor:
    return output.pooled.square().sum() + output.sequence.square().sum()


@every
def test_padding_and_batch_mates_change_nothing_nor_any_gradient(config: ComponentConfig) -> None:
    encoder, x = built(config), inputs(config, 3, 9)
    lengths = [9, 4, 1]
    noisy = x.clone()
    noisy[1, 4:], noisy[2, 1:] = x[0, 4:], x[0, 1:]
    together = encoder(noisy, torch.tensor(lengths))
    alone = [encoder(x[row : row + 1, :size], torch.tensor([size])) for row, size in enumerate(lengths)]
    assert together.pooled.shape == (3, encoder.output_size)
    for row, output in enumerate(alone):
        size = int(output.lengths[0])
        assert int(together.lengths[row]) == size >= 1
        torch.testing.assert_close(together.sequence[row, :size], output.sequence[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.pooled[row], output.pooled[0], atol=1e-5, rtol=1e-5)
        assert not together.sequence[row, size:].any()
        for part, value in output.state.items():
            torch.testing.assert_close(together.state[part][row], value[0], atol=1e-5, rtol=1e-5)
    found = gradients(encoder, loss(together))
    wanted = gradients(encoder, sum((loss(output) for output in alone), torch.zeros(())))
    for parameter, gradient in found.items():
        assert gradient is not None, f"{parameter} gets no gradient"
        assert gradient.any(), f"the gradient of {parameter} is zero"
        torch.testing.assert_close(gradient, wanted[parameter], atol=1e-4, rtol=1e-3)


@every
def test_a_row_without_steps_is_zeros_and_harms_no_gradient(config: ComponentConfig) -> None:
    encoder, x = built(config), inputs(config, 2, 3)
    output = encoder(x, torch.tensor([3, 0]))
    assert int(output.lengths[1]) == 0
    assert not output.sequence[1].any()
    assert not output.pooled[1].any()
    assert all(torch.isfinite(g).all() for g in gradients(encoder, loss(output)).values() if g is not None)
    nobody = encoder(x[:, :1], torch.tensor([0, 0]))
    assert nobody.lengths.tolist() == [0, 0]
    assert nobody.pooled.shape == (2, encoder.output_size)
    assert not nobody.pooled.any()


@every
@pytest.mark.parametrize("chunks", [[1] * 9, [2, 3, 4], [8, 1]])
def test_chunks_equal_the_whole_or_are_refused_with_the_reason(config: ComponentConfig, chunks: list[int]) -> None:
    encoder, x = built(config), inputs(config, 2, 9)
    if not hasattr(encoder, "step"):
        return  # a type without memory: each step is by itself already
    if not encoder.causal:
        with pytest.raises(ValueError, match="needs the whole sequence and cannot go on from a state"):
            encoder.step(x[:, :1], encoder.initial_state(2))
        return
    whole = encoder(x, torch.tensor([9, 9]))
    state, outputs = encoder.initial_state(2), []
    for chunk in torch.split(x, chunks, 1):
        output, state = encoder.step(chunk, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole.sequence, atol=1e-5, rtol=0)
    assert state.keys() == whole.state.keys()
    for part, value in whole.state.items():
        assert len(value) == 2
        torch.testing.assert_close(state[part], value, atol=1e-5, rtol=0)


@every
def test_a_causal_encoder_goes_on_from_rows_of_unequal_length(config: ComponentConfig) -> None:
    encoder, x = built(config), inputs(config, 2, 18)
    if not getattr(encoder, "causal", False):
        return
    first = encoder(x[:, :12], torch.tensor([12, 0]))
    after = encoder(x[:, 12:], torch.tensor([6, 6]), first.state).state
    wanted = encoder(torch.stack([x[0], x[1].roll(-12, 0)]), torch.tensor([18, 6])).state
    for part, value in wanted.items():
        torch.testing.assert_close(after[part], value, atol=1e-5, rtol=0)


@every
def test_weights_survive_the_meta_device_and_a_save(config: ComponentConfig) -> None:
    encoder, x = built(config), inputs(config, 2, 3)
    with torch.device("meta"):
        empty = ENCODERS.build(config)
    empty.load_state_dict(encoder.state_dict(), strict=True, assign=True)
    lengths = torch.tensor([3, 2])
    assert torch.equal(empty.eval()(x, lengths).pooled, encoder(x, lengths).pooled)


@pytest.mark.parametrize("strides", [(2, 2), (3, 1)])
def test_audio_outputs_stand_at_multiples_of_the_stride(strides: tuple[int, int]) -> None:
    config = configured("audio-rnn", causal=True, strides=strides)
    encoder = built(config)
    total = strides[0] * strides[1]
    assert encoder.stride == total
    x = inputs(config, 1, 13)
    output = encoder(x, torch.tensor([13])).sequence
    assert output.shape[1] == -(-13 // total)
    for frame in range(13):
        changed = x.clone()
        changed[:, frame] += 1
        differs = (encoder(changed, torch.tensor([13])).sequence - output).abs().amax((0, 2)) > 1e-6
        first = -(-frame // total)
        assert not differs[:first].any()
        assert differs[first:].all()


@pytest.mark.parametrize("frames", [4096, 4097, 12_300])
@pytest.mark.parametrize("strides", [(2, 2), (3, 2)])
def test_a_long_sound_in_pieces_gives_what_it_gives_beside_another(frames: int, strides: tuple[int, int]) -> None:
    encoder = built(configured("audio-rnn", causal=True, strides=strides, pooling="attention"))
    x = torch.randn(1, frames + 9, 64, generator=torch.Generator().manual_seed(0))
    state = encoder.step(x[:, :7], encoder.initial_state(1))[1] if strides == (2, 2) else encoder.initial_state(1)
    alone = encoder(x, torch.tensor([frames]), state)
    # Two rows are not taken in pieces.
    twice = {name: value.expand(2, *value.shape[1:]) for name, value in state.items()}
    together = encoder(x.expand(2, -1, -1), torch.tensor([frames, 0]), twice)
    steps = int(alone.lengths)
    assert torch.equal(alone.lengths, together.lengths[:1])
    torch.testing.assert_close(alone.sequence[:, :steps], together.sequence[:1, :steps], atol=1e-5, rtol=0)
    torch.testing.assert_close(alone.pooled, together.pooled[:1], atol=1e-5, rtol=0)
    for part, value in alone.state.items():
        torch.testing.assert_close(value, together.state[part][:1], atol=1e-5, rtol=0)


def sizes_seen(encoder: nn.Module, frames: list[int]) -> set[int]:
    """Lengths that the first convolution meets."""
    seen: set[int] = set()
    layers: Any = encoder.convolutions
    layers[0].conv.register_forward_pre_hook(lambda _, given: seen.add(given[0].shape[2]))
    for count in frames:
        encoder(torch.zeros(1, count, 64), torch.tensor([count]))
    return seen


@pytest.mark.parametrize("causal", [True, False])
def test_convolutions_over_time_meet_few_lengths(causal: bool) -> None:
    encoder = built(configured("audio-rnn", causal=causal))
    assert len(sizes_seen(encoder, list(range(128, 256)))) == 9


def test_a_long_sound_is_never_held_whole() -> None:
    assert max(sizes_seen(built(configured("audio-rnn", causal=True)), [20_000])) < 4200


def test_a_cnn_sees_frames_by_parts() -> None:
    parts: list[int] = []

    def see(frames: Tensor) -> Tensor:
        parts.append(len(frames))
        return frames * 2

    frames = torch.arange(150.0)
    assert torch.equal(by_parts(see, frames), frames * 2)
    assert parts == [64, 64, 22]
    parts.clear()
    large = torch.zeros(9, 3, 1024, 1024, dtype=torch.uint8)
    assert len(by_parts(see, large)) == 9
    assert parts == [4, 4, 1]


@pytest.mark.parametrize(
    ("features", "encoder"),
    [
        ({"type": "pixels", "size": 1024}, {"type": "image-small", "channels": (128, 8)}),
        ({"type": "pixels", "size": 1024}, {"type": "image-small", "channels": (32, 512)}),
        ({"type": "frames", "size": 1024}, {"type": "video-rnn", "channels": (128, 8)}),
    ],
)
def test_maps_of_any_size_are_not_made(features: dict[str, Any], encoder: dict[str, Any]) -> None:
    config = ENCODERS.parse(encoder)
    config.check(FEATURES.parse(features | {"size": 256}))
    with pytest.raises(ValueError, match=r"maps of \d+ x \d+ are more than \d+ numbers: choose fewer"):
        config.check(FEATURES.parse(features))


def test_audio_rows_at_different_places_cannot_be_stepped_together() -> None:
    encoder = built(configured("audio-rnn", causal=True))
    state = encoder.initial_state(2)
    state["phase0"][1] = 1
    with pytest.raises(ValueError, match="rows at different places"):
        encoder.step(torch.zeros(2, 3, 64), state)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"type": "audio-rnn", "causal": True, "bidirectional": True}, "cannot be bidirectional"),
        ({"type": "audio-rnn", "channels": [8]}, "one number a convolution"),
        ({"type": "text-rnn", "vocabulary": 9, "cell": "gru", "nonlinearity": "relu"}, "only the cell 'elman'"),
        ({"type": "text-rnn", "vocabulary": 9, "weight_dropout": 0.1, "layer_norm": "cell"}, "needs the fast kernels"),
        ({"type": "vectors-mean", "size": 1}, "no scale of its own"),
        ({"type": "video-rnn", "backbone": "mobilenet-v2", "planes": 1}, "frames in colour"),
        ({"type": "video-rnn", "backbone": "efficientnet-lite0", "planes": 1}, "frames in colour"),
        ({"type": "video-mean", "channels": [16, 10**9]}, "less than or equal to"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_built(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ENCODERS.parse(config)


@pytest.mark.parametrize("name", NETWORKS)
def test_video_may_be_seen_by_a_network_for_photos(name: str) -> None:
    config = configured("video-mean", backbone=name, grid=1)
    encoder, frames = built(config), inputs(config, 2, 2)
    together = encoder(frames, torch.tensor([2, 1]))
    torch.testing.assert_close(
        together.pooled[1:], encoder(frames[1:, :1], torch.tensor([1])).pooled, atol=1e-5, rtol=0
    )


def test_the_order_of_words_matters_to_the_rnn_and_not_to_the_bag() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    lengths = torch.tensor([4, 4])
    bag, rnn = (built(configured(name))(ids, lengths).pooled for name in ("text-bag", "text-rnn"))
    torch.testing.assert_close(bag[0], bag[1])
    assert (rnn[0] - rnn[1]).abs().max() > 1e-3


def test_dropout_acts_in_training_only() -> None:
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("text-rnn", {"word_dropout": 0.5}, 6),
        ("text-bag", {"word_dropout": 0.5}, 6),
        ("vectors-mean", {"dropout": 0.5}, 6),
        ("image-small", {"dropout": 0.5}, 2),
    ]
    for name, options, steps in cases:
        config = configured(name, **options)
        encoder, x = built(config), inputs(config, 2, steps)
        lengths = torch.full((2,), steps)
        served = encoder(x, lengths).pooled
        assert torch.equal(served, encoder(x, lengths).pooled)
        assert not torch.allclose(served, encoder.train()(x, lengths).pooled)
