"""Pictures of high dynamic range to ordinary ones, as ITU-R BT.2100 says what their signals mean.

A signal becomes light, with reference white at 1 (ITU-R BT.2408: 203 cd/m2, three quarters of HLG's signal), light of
BT.2020's primaries becomes that of BT.709's (ITU-R BT.2087), highlights are rolled off, and what is left is coded as
sRGB (IEC 61966-2-1), as the photos are that models learn from.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from av.video.reformatter import ColorPrimaries, ColorTrc
from numpy.typing import NDArray

Light = NDArray[np.float32]

_WHITE = 203.0
"""Reference white, cd/m2."""

_PEAK = 1000.0
"""The brightest of the display that HLG is rendered for, cd/m2. Phones and studios take the same."""

_GAMMA = 1.2
"""Of the system, from scene to display, at that peak."""

_KNEE = 0.9
"""Light from which on highlights are rolled off. What is no highlight comes back as it was."""

_LEVELS = 12
"""Bits of a signal that its light is looked up by: as many as any such video has."""

_BRIGHTEST = 16.0
"""Light from which on all is white."""

_STEPS = 4096
"""Steps of light's square root that its code is looked up by, each a quarter of a code wide."""

_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""What red, green and blue of BT.2020 add to luminance."""

_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # fmt: skip
"""Light in BT.2020's primaries to light in BT.709's (ITU-R BT.2087)."""


@dataclass(frozen=True, slots=True)
class Signal:
    """How a picture codes light: ``hlg``, else PQ, of BT.2020's primaries (``wide``) or of others."""

    hlg: bool
    wide: bool


def hdr_signal(transfer: int, primaries: int) -> Signal | None:
    """The signal that a picture says it has, in the numbers of ITU-T H.273; None if it is none of high dynamic range.

    Primaries are BT.2020's where it names none, as BT.2100 knows no others.
    """
    if transfer not in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67):
        return None
    wide = primaries in (ColorPrimaries.BT2020, ColorPrimaries.UNSPECIFIED)
    return Signal(hlg=transfer == ColorTrc.ARIB_STD_B67, wide=wide)


def tone_mapped(coded: NDArray[np.uint16], signal: Signal) -> NDArray[np.uint8]:
    """A picture RGB [H, W, 3] in that signal, 65535 for 1, as sRGB [H, W, 3]."""
    light = _light(signal.hlg)[coded >> (16 - _LEVELS)]
    if signal.hlg:
        # The OOTF is of luminance, so that colours keep their hue.
        light *= ((light @ _LUMINANCE) ** np.float32(_GAMMA - 1) * np.float32(_PEAK / _WHITE))[..., None]
    if signal.wide:
        light = light @ _TO_BT709.T
    steps = np.sqrt(light.clip(0, _BRIGHTEST)) * np.float32((_STEPS - 1) / math.sqrt(_BRIGHTEST)) + np.float32(0.5)
    shown: NDArray[np.uint8] = _codes()[steps.astype(np.uint16)]
    return shown


@cache
def _light(hlg: bool) -> Light:
    """Light of each signal: of PQ on the display, reference white being 1; of HLG in the scene, its peak being 1."""
    signal = np.arange(1 << _LEVELS) / ((1 << _LEVELS) - 1)
    if hlg:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = signal ** (1 / m2)
    return (10_000 / _WHITE * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)).astype(np.float32)


@cache
def _codes() -> NDArray[np.uint8]:
    """The sRGB code of each step of light's square root, highlights rolled off."""
    light = np.linspace(0, math.sqrt(_BRIGHTEST), _STEPS) ** 2
    over = (light - _KNEE) / (1 - _KNEE)
    light = np.where(over > 0, _KNEE + (1 - _KNEE) * over / (1 + over.clip(0)), light)
    coded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * coded), np.uint8)
