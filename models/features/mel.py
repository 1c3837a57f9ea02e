"""Log-mel spectrogram whose frames need no sample from after their end, so that a stream gives what the whole gives."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = 1 << 15
"""Samples that are transformed at a time: their windows, which overlap, fit into a cache."""


def mel(hertz: float) -> float:
    """The HTK mel scale, 2595 log10(1 + f / 700)."""
    return 2595 * math.log10(1 + hertz / 700)


def mel_filters(bands: int, transform: int, rate: int, lowest: float) -> Tensor:
    """Triangles of height 1, evenly spaced in mel from ``lowest`` Hz to half the rate: [transform/2 + 1, bands].

    Raises:
        ValueError: a band is narrower than the transform's bins, so that it would always be empty.
    """
    corners = 700 * (10 ** (torch.linspace(mel(lowest), mel(rate / 2), bands + 2, dtype=torch.float64) / 2595) - 1)
    bins = torch.linspace(0, rate / 2, transform // 2 + 1, dtype=torch.float64).unsqueeze(1)
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    filters = torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)
    if not bool((filters > 0).any(0).all()):
        raise ValueError(f"{bands} mel bands are too many for bins of {rate / transform:g} Hz: ask for fewer bands")
    return filters.float()


class LogMel:
    """Logarithm of mel band energies of sound at full scale 1, frame by frame.

    Frame k is the Hann-windowed power spectrum of the ``window`` samples that end with sample (k + 1) * ``hop``; before
    the first sample there is silence. N samples give ceil(N / hop) frames, the last one filled up with zeros. What a
    stream has to remember is fewer than ``window`` samples.
    """

    def __init__(
        self, rate: int, bands: int, window: int, hop: int, *, lowest: float = 20, floor: float = 1e-6
    ) -> None:
        if hop > window:
            raise ValueError(f"a hop of {hop} samples would skip some between windows of {window}")
        self.bands = bands
        self.hop = hop
        self.floor = floor
        self._window = torch.hann_window(window, dtype=torch.float64)
        self._transform = 1 << (window - 1).bit_length()
        self._filters = mel_filters(bands, self._transform, rate, lowest)

    def start(self) -> Tensor:
        """What is remembered before the first sample: silence."""
        return torch.zeros(len(self._window) - self.hop)

    def step(self, samples: Tensor, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """The frames [t, bands], if any, that ``samples`` float32 [n] complete, and what to remember for the next.

        Rows that remember equally much can be stepped together: [B, n] gives [B, t, bands].
        """
        signal = torch.cat([remembered, samples], -1)
        count = max(signal.shape[-1] - len(self._window) + self.hop, 0) // self.hop
        return self._frames(signal, count), signal[..., count * self.hop :]

    def finish(self, remembered: Tensor) -> Tensor:
        """The frame [0 or 1, bands] of the samples that no frame has held yet, filled up with zeros."""
        missing = len(self._window) - len(remembered)
        fresh = self.hop - missing
        return self._frames(torch.nn.functional.pad(remembered, (0, missing)), int(fresh > 0))

    def __call__(self, samples: NDArray[np.float32]) -> Tensor:
        """All frames [ceil(N / hop), bands] of ``samples`` [N >= 1]."""
        frames, remembered = [], self.start()
        for block in torch.split(torch.from_numpy(samples), _BLOCK):
            some, remembered = self.step(block, remembered)
            frames.append(some)
        return torch.cat([*frames, self.finish(remembered)])

    def _frames(self, signal: Tensor, count: int) -> Tensor:
        if not count:
            return torch.zeros(*signal.shape[:-1], 0, self.bands)
        # In double precision: the rounding of a loud band would else reach into quiet ones, and differ with the chunks.
        windows = signal.double().unfold(-1, len(self._window), self.hop)[..., :count, :] * self._window
        spectrum = torch.fft.rfft(windows, self._transform)
        # A fifth of the time of abs(), which guards against overflow.
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag).float()
        energies: Tensor = power @ self._filters
        return energies.clamp(min=self.floor).log()
