"""Recorded sounds as waveforms, decoded once, and the ways in which phones, rooms and speakers change them.

Every change takes float32 samples [N] at full scale 1; chance is torch's global generator, whose state a resumed run
gets back.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.features.audio import AudioFeatures
from models.media.audio import decode_audio
from models.media.limits import MediaLimits
from models.sequence import Padded, pad
from models.training.manifest import Manifest
from models.training.ragged import Ragged, cached_ragged

_FULL_SCALE = 32_767
_MOST_BYTES = 4e9


class Waveforms:
    """The sounds of a manifest at ``rate`` Hz, mono; a row is float32 [N]."""

    def __init__(self, manifest: Manifest, rate: int, cache: Path, *, field: str = "audio") -> None:
        self.rate = rate
        names = [str(example[field]) for example in manifest.examples]

        def compute(row: int) -> tuple[Tensor, list[str]]:
            data = manifest.path(manifest.examples[row], field).read_bytes()
            samples = torch.from_numpy(decode_audio(data, MediaLimits(), rate=rate).samples)
            return (samples.clamp(-1, 1) * _FULL_SCALE).round().to(torch.int16), []

        label = f"{manifest.folder.resolve().name}-{manifest.split}"
        key = {"files": names, "rate": rate}
        self._rows: Ragged = cached_ragged(cache, label, key, len(names), compute, most_bytes=_MOST_BYTES)

    def __len__(self) -> int:
        return len(self._rows.lengths)

    def __getitem__(self, row: int) -> Tensor:
        return self._rows[row].float() / _FULL_SCALE


def uniform(low: float, high: float) -> float:
    """A number drawn evenly from ``low`` to ``high``."""
    return low + (high - low) * float(torch.rand(()))


def chance(p: float) -> bool:
    """Whether something of probability ``p`` happens."""
    return float(torch.rand(())) < p


def choice(count: int) -> int:
    """A whole number below ``count``."""
    return int(torch.randint(count, ()))


def speed(x: Tensor, factor: float) -> Tensor:
    """Played ``factor`` times as fast, pitch and all (Ko et al. 2015)."""
    size = max(round(len(x) / factor), 1)
    return F.interpolate(x.view(1, 1, -1), size=size, mode="linear", align_corners=False).view(-1)


def placed(x: Tensor, size: int, start: int) -> Tensor:
    """In a window of ``size`` samples, beginning at ``start``, which may be negative; the rest is silence."""
    window = x.new_zeros(size)
    first, last = max(start, 0), min(start + len(x), size)
    if last > first:
        window[first:last] = x[first - start : last - start]
    return window


def excerpt(x: Tensor, size: int) -> Tensor:
    """A stretch of ``size`` samples from anywhere in a sound, repeated where it is shorter."""
    if len(x) < size:
        x = x.repeat(-(-size // len(x)))
    start = choice(len(x) - size + 1)
    return x[start : start + size]


def mixed(x: Tensor, noise: Tensor, decibels: float) -> Tensor:
    """``x`` with noise of the same size, ``decibels`` below it in power (where ``x`` sounds at all)."""
    level = x.square().mean().sqrt().clamp(min=1e-4)
    loudness = noise.square().mean().sqrt().clamp(min=1e-6)
    return x + noise * (level / loudness * 10 ** (-decibels / 20))


def coloured_noise(size: int, slope: float) -> Tensor:
    """Gaussian noise whose power falls with frequency to the power ``slope``: 0 is white, 1 pink, 2 brown."""
    spectrum = torch.fft.rfft(torch.randn(size))
    frequencies = torch.arange(len(spectrum), dtype=torch.float32).clamp(min=1)
    noise = torch.fft.irfft(spectrum * frequencies.pow(-slope / 2), size)
    even: Tensor = noise / noise.std().clamp(min=1e-6)
    return even


def low_passed(x: Tensor, rate: int, hertz: float) -> Tensor:
    """Without what lies above ``hertz``: a lossy coder, or a cheap microphone."""
    return band_passed(x, rate, 0, hertz)


def band_passed(x: Tensor, rate: int, low: float, high: float) -> Tensor:
    """Only what lies from ``low`` to ``high`` hertz, as through a telephone."""
    spectrum = torch.fft.rfft(x)
    hertz = torch.arange(len(spectrum)) * (rate / len(x))
    passed: Tensor = torch.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), len(x))
    return passed


def in_a_room(x: Tensor, rate: int, seconds: float, decibels: float = -6.0) -> Tensor:
    """With an echo, ``decibels`` beside the sound itself: noise that falls by 60 dB in so many seconds."""
    count = round(seconds * rate)
    # 60 dB are a factor of 1000 in amplitude.
    echo = torch.randn(count) * 1000 ** (-torch.arange(count) / count)
    response = echo * (10 ** (decibels / 20) / echo.square().sum().sqrt())
    response[0] = 1
    # A power of two: lengths with large prime factors take ten times as long.
    size = 1 << (len(x) + count - 1).bit_length()
    echoed = torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(response, size), size)
    heard: Tensor = echoed[: len(x) + count]
    return heard * (x.abs().max() / heard.abs().max().clamp(min=1e-6))


def amplified(x: Tensor, decibels: float) -> Tensor:
    """Louder or softer; what passes full scale is clipped, as a recorder does."""
    return (x * 10 ** (decibels / 20)).clamp(-1, 1)


def log_mel(features: AudioFeatures, sounds: Sequence[Tensor]) -> Padded:
    """Sounds as the encoder reads them."""
    frames = features.log_mel()
    return pad([features.scaled(frames(sound.numpy())) for sound in sounds])
