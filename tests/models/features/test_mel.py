import math

import numpy as np
import pytest
import torch

from models.features import AudioFeatures
from models.features.mel import LogMel

RATE, WINDOW, HOP, BANDS = 16_000, 400, 160, 64


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise under a loud tone, whose rounding must not reach the quiet bands."""
    rng = np.random.default_rng(seed)
    tone = 0.7 * np.sin(2 * np.pi * 440 * np.arange(samples) / RATE)
    return (tone + 1e-4 * rng.standard_normal(samples)).astype(np.float32)


def by_definition(samples: np.ndarray) -> np.ndarray:
    """Frame by frame, the discrete Fourier transform as a sum and the triangles of the HTK scale one by one."""
    size = 512
    edges = [0.0] * (BANDS + 2)
    low, high = (2595 * math.log10(1 + f / 700) for f in (20, RATE / 2))
    for index in range(BANDS + 2):
        edges[index] = 700 * (10 ** ((low + (high - low) * index / (BANDS + 1)) / 2595) - 1)
    frequencies = np.arange(size // 2 + 1) * RATE / size
    filters = np.stack(
        [np.interp(frequencies, edges[band : band + 3], [0, 1, 0], left=0, right=0) for band in range(BANDS)], 1
    )
    transform = np.exp(-2j * np.pi * np.outer(np.arange(WINDOW), np.arange(size // 2 + 1)) / size)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    frames = []
    for end in range(HOP, math.ceil(len(samples) / HOP) * HOP + 1, HOP):
        held = np.zeros(WINDOW)
        for place in range(max(end - WINDOW, 0), min(end, len(samples))):
            held[place - end + WINDOW] = samples[place]
        frames.append(np.log(np.maximum((np.abs((held * hann) @ transform) ** 2) @ filters, 1e-6)))
    return np.stack(frames)


@pytest.mark.parametrize("length", [1, 159, 160, 161, 400, 1234])
def test_equals_a_direct_fourier_transform(length: int) -> None:
    samples = noise(length)
    frames = LogMel(RATE, BANDS, WINDOW, HOP)(samples)
    assert frames.shape == (math.ceil(length / HOP), BANDS)
    np.testing.assert_allclose(frames.numpy(), by_definition(samples), atol=1e-4)


@pytest.mark.parametrize("length", [1, 100, 160, 4321])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stream_gives_what_the_whole_gives(length: int, seed: int) -> None:
    samples, log_mel = noise(length), LogMel(RATE, BANDS, WINDOW, HOP)
    rng = np.random.default_rng(seed)
    remembered, frames, place = log_mel.start(), [], 0
    while place < length:
        chunk = int(rng.integers(1, (2, 50, 1000)[seed]))
        part, remembered = log_mel.step(torch.from_numpy(samples[place : place + chunk]), remembered)
        assert len(remembered) < WINDOW
        frames.append(part)
        place += chunk
    streamed = torch.cat([*frames, log_mel.finish(remembered)])
    torch.testing.assert_close(streamed, log_mel(samples), atol=1e-5, rtol=0)


def test_a_frame_knows_nothing_of_later_samples() -> None:
    samples, log_mel = noise(1600), LogMel(RATE, BANDS, WINDOW, HOP)
    other = samples.copy()
    other[800:] = 0.9
    assert torch.equal(log_mel(samples)[:5], log_mel(other)[:5])
    assert not torch.equal(log_mel(samples)[5], log_mel(other)[5])


def test_bands_that_would_always_be_empty_are_refused() -> None:
    with pytest.raises(ValueError, match="200 mel bands are too many for bins of 31"):
        AudioFeatures(n_mels=200)
    with pytest.raises(ValueError, match="would skip some"):
        LogMel(RATE, BANDS, WINDOW, WINDOW + 1)
