"""Sound resampled chunk by chunk is what the whole file would be, for any rate and any chunks."""

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from models.media import MediaLimits
from models.media.audio import decode_audio
from models.streaming.resampling import Resampler, resampler

RATES = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]


def whole(samples: np.ndarray, rate: int) -> np.ndarray:
    """What a file of these samples is decoded to."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return decode_audio(file.getvalue(), MediaLimits()).samples


def streamed(samples: np.ndarray, used: Resampler, sizes: list[int]) -> np.ndarray:
    """``samples`` in chunks of ``sizes``, over and over."""
    state, pieces, at, turn = used.start(), [], 0, 0
    while at < len(samples):
        size = sizes[turn % len(sizes)]
        pieces.append(used.step(samples[at : at + size], state))
        at, turn = at + size, turn + 1
    return np.concatenate([*pieces, used.finish(state)])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(RATES),
    st.integers(10, 30_000),
    st.lists(st.one_of(st.integers(1, 50), st.integers(1, 20_000)), min_size=1, max_size=5),
)
def test_streamed_is_whole(rate: int, count: int, sizes: list[int]) -> None:
    samples = np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)
    # One sample a chunk tells as much in a shorter sound.
    samples = samples[: 500 * max(sizes)]
    found = streamed(samples, resampler(rate, 16_000), sizes)
    wanted = whole(samples, rate)
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_the_state_does_not_grow() -> None:
    used = resampler(44_100, 16_000)
    state = used.start()
    held = []
    for _ in range(500):
        used.step(np.zeros(882, np.float32), state)
        held.append(len(state.held))
    assert max(held) < 1_500
    assert state.came - state.given * 44_100 / 16_000 < 1_000


def test_rates_with_nothing_in_common_are_refused() -> None:
    for rate in (44_101, 191_975):
        with pytest.raises(ValueError, match=f"{rate} Hz has too little in common with 16000 Hz"):
            Resampler(rate, 16_000)


@pytest.mark.parametrize(
    "rate", [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000]
)
def test_usual_rates_are_taken(rate: int) -> None:
    assert len(Resampler(rate, 16_000).step(np.zeros(rate, np.float32), Resampler(rate, 16_000).start())) > 15_000
