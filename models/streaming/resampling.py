"""Sound of any usual rate to a checkpoint's rate, chunk by chunk, as the whole file is resampled.

Files are resampled by soxr. Its streams keep their state to themselves, in 60 KB, and answer in lumps of 30 to 100 ms.
But its filter is linear and repeats itself, so its answers to impulses are all there is to know of it: they are read
once, and applied here to a window of samples that a session carries along. The sum is soxr's within single precision.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

_REACH = 128
"""Samples, of the slower of the two rates, on either side of an output beyond which the filter is zero."""

_NOTHING = 1e-7
"""Taps below this are below the rounding of single precision."""

_OUTPUTS = 160
"""Outputs to compute at once, at least: 10 ms at 16 kHz."""

_MOST_PHASES = 640
"""Outputs, or inputs, until the filter repeats itself: more would make its matrix larger than a cache, and the sound
late. Of the usual rates 11025 Hz has the most: 640 outputs of 16 kHz."""


@dataclass(slots=True)
class Resampled:
    """What a session remembers: the last samples, how many came, and how many were given."""

    held: Samples
    came: int = 0
    given: int = 0


class Resampler:
    """From ``rate`` to ``target`` Hz; one object serves any number of sessions.

    Output n stands at input n * rate / target, and N samples give N * target / rate, rounded half up. Outputs come in
    groups, so that a group is one product of the samples around it with a matrix of taps.
    """

    def __init__(self, rate: int, target: int) -> None:
        """Reads the filter, in milliseconds.

        Raises:
            ValueError: the rates have too little in common.
        """
        common = math.gcd(rate, target)
        up, down = target // common, rate // common
        if max(up, down) > _MOST_PHASES:
            raise ValueError(f"a rate of {rate} Hz has too little in common with {target} Hz")
        self.same = rate == target
        groups = -(-_OUTPUTS // up)
        self.up, self.down = up * groups, down * groups
        taps, self.reach = _filter(up, down)
        # Column p: the taps of the group's output p, whose place is p * down / up inputs after the group's first.
        self._matrix = np.zeros((self.down + 2 * self.reach, self.up), np.float32)
        for output in range(self.up):
            place = output * down // up
            self._matrix[place : place + 2 * self.reach + 1, output] = taps[output * down % up]

    def start(self) -> Resampled:
        """Silence before the first sample."""
        return Resampled(np.zeros(0 if self.same else self.reach, np.float32))

    def step(self, samples: Samples, state: Resampled) -> Samples:
        """What ``samples`` float32 [n] complete; ``state`` moves on. The rest follows 10 to 40 ms later."""
        if self.same:
            return samples
        signal = np.concatenate([state.held, samples])
        groups = max(len(signal) - 2 * self.reach, 0) // self.down
        state.came += len(samples)
        state.given += groups * self.up
        state.held = signal[groups * self.down :].copy()
        if not groups:
            return np.zeros(0, np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(signal, len(self._matrix))
        outputs: Samples = windows[: groups * self.down : self.down] @ self._matrix
        return outputs.ravel()

    def finish(self, state: Resampled) -> Samples:
        """What is left if the sound ends here."""
        if self.same:
            return np.zeros(0, np.float32)
        total = (2 * state.came * self.up + self.down) // (2 * self.down)
        missing = total - state.given
        silence = np.zeros(2 * self.reach + self.down * (1 + missing // self.up), np.float32)
        return self.step(silence, state)[:missing]


# The usual rates to those of two checkpoints.
@lru_cache(32)
def resampler(rate: int, target: int) -> Resampler:
    """The one for these rates, shared.

    Raises:
        ValueError: the rates have too little in common.
    """
    return Resampler(rate, target)


def _filter(up: int, down: int) -> tuple[Samples, int]:
    """soxr's taps [up, 2 * reach + 1] by the phase of the output, and how many samples they reach back and ahead."""
    if up == down:
        return np.ones((1, 1), np.float32), 0
    reach = math.ceil(_REACH * max(1.0, down / up))
    # Impulses so far apart that the answers do not overlap, each at another phase of the input.
    apart = -(-(2 * reach + down) // down) * down + 1
    impulses = reach + apart * np.arange(down)
    probe = np.zeros(impulses[-1] + reach + 1, np.float32)
    probe[impulses] = 1
    answer = soxr.resample(probe, down, up)
    # In steps of 1 / up of an input: an output's distance from the input that it weighs so.
    taps = np.zeros((2 * reach + 1) * up, np.float32)
    for impulse in impulses.tolist():
        first = -(-(impulse - reach) * up // down)
        last = min((impulse + reach) * up // down, len(answer) - 1)
        outputs = np.arange(max(first, 0), last + 1)
        taps[outputs * down - impulse * up + reach * up] = answer[outputs]
    # Row p: the weights of inputs -reach .. reach around an output at phase p, which lie at (reach - j) * up + p.
    by_phase = taps.reshape(2 * reach + 1, up)[::-1].T
    used = np.abs(by_phase).max(0) > _NOTHING
    unused = int(np.argmax(used | used[::-1]))
    return by_phase[:, unused : 2 * reach + 1 - unused], reach - unused
