"""What recordings go through keeps its promises: levels, places, lengths and bands."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from models.training.manifest import read_manifest
from models.training.recipes.waveforms import (
    Waveforms,
    amplified,
    band_passed,
    coloured_noise,
    excerpt,
    in_a_room,
    low_passed,
    mixed,
    placed,
    speed,
)

RATE = 8000


def tone(hertz: float, seconds: float = 1.0, amplitude: float = 0.3) -> Tensor:
    return amplitude * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


def loudest(x: Tensor) -> float:
    """Hz of the strongest component."""
    return float(torch.fft.rfft(x).abs().argmax()) * RATE / len(x)


def power(x: Tensor) -> float:
    return float(x.square().mean())


def test_sounds_are_decoded_once_at_the_asked_rate(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    soundfile.write(data / "a.wav", tone(440).numpy(), RATE)
    (data / "train.jsonl").write_text(json.dumps({"audio": "a.wav"}) + "\n")
    sounds = Waveforms(read_manifest(data, "train"), 16_000, tmp_path / "cache")
    assert len(sounds) == 1
    assert len(sounds[0]) == 16_000
    assert float(sounds[0].abs().max()) == pytest.approx(0.3, abs=0.01)
    (data / "a.wav").unlink()
    again = Waveforms(read_manifest(data, "train"), 16_000, tmp_path / "cache")
    assert torch.equal(again[0], sounds[0])


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_faster_is_shorter_and_higher(factor: float) -> None:
    faster = speed(tone(400), factor)
    assert len(faster) == round(RATE / factor)
    assert loudest(faster) == pytest.approx(400 * factor, abs=2)


@pytest.mark.parametrize("start", [-3, 0, 4, 8, 20])
def test_a_sound_is_placed_where_it_is_asked_to_be(start: int) -> None:
    sound = torch.arange(1.0, 6)
    window = placed(sound, 10, start)
    heard = {start + place: value for place, value in enumerate(sound.tolist()) if 0 <= start + place < 10}
    assert window.tolist() == [heard.get(place, 0.0) for place in range(10)]


@pytest.mark.parametrize("size", [3, 10, 25])
def test_an_excerpt_goes_on_where_the_sound_does(size: int) -> None:
    taken = excerpt(torch.arange(10.0), size)
    assert len(taken) == size
    assert torch.equal((taken[1:] - taken[:-1]) % 10, torch.ones(size - 1))


@pytest.mark.parametrize("decibels", [0.0, 20.0])
def test_noise_is_mixed_at_the_asked_distance(decibels: float) -> None:
    word = tone(300)
    noise = mixed(word, torch.randn(RATE) * 7, decibels) - word
    assert 10 * np.log10(power(word) / power(noise)) == pytest.approx(decibels, abs=0.1)


def test_noise_in_silence_stays_quiet() -> None:
    assert float(mixed(torch.zeros(RATE), torch.randn(RATE), 0).abs().max()) < 1e-3


@pytest.mark.parametrize("slope", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(slope: float) -> None:
    spectrum = torch.fft.rfft(torch.stack([coloured_noise(4096, slope) for _ in range(50)])).abs().square().mean(0)
    low, high = spectrum[100:200].mean(), spectrum[1000:2000].mean()
    # From the first band to the second frequencies are ten times as high.
    assert 10 * np.log10(float(low / high)) == pytest.approx(10 * slope, abs=1)


def test_a_narrow_band_holds_only_what_lies_below_its_edge() -> None:
    heard = low_passed(tone(500) + tone(3000), RATE, 2000)
    assert power(heard - tone(500)) < 1e-6


def test_a_telephone_lets_a_band_through() -> None:
    heard = band_passed(tone(100) + tone(500) + tone(3000), RATE, 300, 2000)
    assert power(heard - tone(500)) < 1e-6


def test_a_room_goes_on_sounding_and_is_no_louder() -> None:
    torch.manual_seed(0)
    click = torch.zeros(RATE // 10)
    click[0] = 0.5
    heard = in_a_room(click, RATE, 0.5)
    assert len(heard) == len(click) + RATE // 2
    assert float(heard.abs().max()) == pytest.approx(0.5)
    early, late = heard[1 : RATE // 20], heard[-RATE // 20 :]
    assert power(early) > 1000 * power(late) > 0


def test_what_is_too_loud_is_clipped() -> None:
    assert float(amplified(tone(100), 40).abs().max()) == 1
    assert power(amplified(tone(100), -20)) == pytest.approx(power(tone(100)) / 100)
