"""Digits as they are spoken: alone, and within sentences, where they are shorter and run into their neighbours."""

from collections.abc import Sequence
from typing import Protocol

import soxr
import torch
from torch import Tensor

from models.training.recipes.av_speech.data import RATE as SENTENCE_RATE
from models.training.recipes.av_speech.data import SAMPLES, Sentence
from models.training.recipes.waveforms import Waveforms, uniform

RATE = 8000
"""Hz."""
BESIDE = 0.1
"""Seconds on either side that are kept with a digit out of a sentence."""
_CLOSE = 0.03
"""Seconds that are left of these where nothing is to vary."""


class Sounds(Protocol):
    """Rows of samples float32 [N] at ``RATE``."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Tensor: ...


class Spoken:
    """Recordings of single digits, and behind them digits out of sentences, each time cut off elsewhere."""

    def __init__(self, recordings: Waveforms, within: Sequence[Tensor]) -> None:
        """``within``: as ``spoken_within`` gives them."""
        self.recordings, self.within = recordings, within

    def __len__(self) -> int:
        return len(self.recordings) + len(self.within)

    def __getitem__(self, row: int) -> Tensor:
        alone = len(self.recordings)
        if row < alone:
            return self.recordings[row]
        return _cut(self.within[row - alone], uniform(0, BESIDE), uniform(0, BESIDE))


def spoken_within(sentence: Sentence, place: int) -> Tensor:
    """The samples of a sentence's word at ``place``, with ``BESIDE`` of what is before and behind it."""
    first, last = (sentence.borders[at] * SAMPLES for at in (place, place + 1))
    beside = round(BESIDE * SENTENCE_RATE)
    heard = sentence.sound[max(first - beside, 0) : last + beside]
    return torch.from_numpy(soxr.resample(heard.numpy(), SENTENCE_RATE, RATE))


def closely(within: Sequence[Tensor]) -> list[Tensor]:
    """The same with little beside the digit."""
    return [_cut(x, BESIDE - _CLOSE, BESIDE - _CLOSE) for x in within]


def _cut(x: Tensor, before: float, behind: float) -> Tensor:
    """Without so many seconds at its begin and its end."""
    return x[round(before * RATE) : len(x) - round(behind * RATE)]
