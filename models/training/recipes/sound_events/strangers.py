"""What is none of the kinds: people who speak, and music.

Among the clips a network hears sounds of a class more, whose output is dropped when it has learned: so it learns where
its knowledge ends (outlier exposure, Hendrycks et al. 2019). Words are those of Speech Commands (Warden 2018), music is
made up here.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.features.audio import AudioFeatures
from models.network import FusionRNN
from models.training.manifest import read_manifest
from models.training.recipes.sound_events.clips import FEATURES, RATE, STEPS
from models.training.recipes.waveforms import (
    Waveforms,
    amplified,
    chance,
    choice,
    coloured_noise,
    in_a_room,
    log_mel,
    low_passed,
    mixed,
    placed,
    speed,
    uniform,
)

COUNT = 1000
"""Half of them of either kind."""
SAMPLES = 5 * RATE
"""Of a stranger: as many as of a clip."""
_LOUD = 0.1
"""Of a word's peak: what stays below it, before and after the word, is its pause."""
_PARTIALS = 8
_SCALE = 25
"""Semitones: two octaves."""
_RINGS = 2.0
"""Seconds in which a tone dies away."""


def load(data: Path, folder: Path) -> list[Tensor]:
    """Read ``data``, a folder of words, and make ``COUNT`` spectrograms [STEPS, bands], the same in every run.

    Raises:
        DataError: the words are missing.
    """
    manifest = read_manifest(data, "train", media=("audio",))
    words = Waveforms(manifest, RATE, folder)
    spoken = [row for row, example in enumerate(manifest.examples) if example.get("label") != "silence"]
    features = AudioFeatures.model_validate(FEATURES)
    kinds: tuple[Callable[[], Tensor], ...] = (lambda: _talk(words, spoken), _music)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return [log_mel(features, [_disguised(kinds[n % len(kinds)]())]).values[0][:STEPS] for n in range(COUNT)]


def forget(network: FusionRNN) -> None:
    """Drop the last class, the strangers', from a network that has learned: what it says of the others stays."""
    output: Any = network.head.output
    output.weight, output.bias = nn.Parameter(output.weight[:-1]), nn.Parameter(output.bias[:-1])
    output.out_features -= 1


def _talk(words: Waveforms, rows: list[int]) -> Tensor:
    """Up to eight words one after the other, in a room or close to the microphone."""
    x = torch.zeros(SAMPLES)
    start = choice(RATE) if chance(0.5) else 0
    for _ in range(1 + choice(8)):
        word = words[rows[choice(len(rows))]]
        if chance(0.5):
            word = _without_pauses(word)
        word = speed(word / word.abs().max().clamp(min=1e-3) * uniform(0.2, 0.6), uniform(0.8, 1.25))
        x += placed(word, SAMPLES, start)
        start += len(word) + choice(round(RATE * uniform(0, 0.8)) + 1)
    return _in_some_room(x) if chance(0.4) else x


def _without_pauses(word: Tensor) -> Tensor:
    heard = (word.abs() > _LOUD * word.abs().max()).nonzero().flatten()
    return word[int(heard[0]) : int(heard[-1]) + 1] if len(heard) else word


def _music() -> Tensor:
    """Notes, chords and strokes of one made-up instrument, in steps of a semitone."""
    time = torch.arange(round(_RINGS * RATE)) / RATE
    partials = torch.arange(1, _PARTIALS + 1)
    loudness = partials ** -uniform(0.3, 2.5) * torch.rand(_PARTIALS) ** uniform(0, 2)
    if chance(0.3):
        # A clarinet, or a closed pipe, hardly has every second one.
        loudness[1::2] *= 0.1
    # Stiff strings and bells are out of tune with themselves.
    stretched = partials * (1 + (uniform(0, 0.02) if chance(0.3) else 0.0) * partials**2)
    vibrato = uniform(0, 0.002) if chance(0.4) else 0.0
    envelope = torch.exp(-uniform(0.3, 8) * time) * (time / uniform(0.002, 0.15)).clamp(max=1)
    lowest, beat, voices, drums = uniform(60, 600), uniform(0.08, 1.0), 1 + choice(3), chance(0.3)

    @cache
    def note(semitones: int) -> Tensor:
        phase = 2 * math.pi * lowest * 2 ** (semitones / 12) * (time + vibrato * torch.sin(10 * math.pi * time))
        return envelope * (loudness.unsqueeze(1) * torch.sin(phase * stretched.unsqueeze(1))).sum(0)

    x = torch.zeros(SAMPLES)
    start = 0
    while start < SAMPLES:
        for _ in range(voices):
            x += placed(note(choice(_SCALE)), SAMPLES, start)
        if drums and chance(0.6):
            short = time[: round(0.3 * RATE)]
            x += placed(torch.randn(len(short)) * torch.exp(-uniform(10, 60) * short) * uniform(0.2, 2), SAMPLES, start)
        start += round(RATE * beat * (1 if chance(0.6) else 0.5))
    x *= uniform(0.1, 0.7) / x.abs().max().clamp(min=1e-3)
    return _in_some_room(x) if chance(0.3) else x


def _in_some_room(x: Tensor) -> Tensor:
    return in_a_room(x, RATE, uniform(0.1, 0.8))[:SAMPLES]


def _disguised(x: Tensor) -> Tensor:
    if chance(0.3):
        x = low_passed(x, RATE, uniform(2500, 9000))
    if chance(0.5):
        x = mixed(x, coloured_noise(len(x), uniform(0, 2)), uniform(10, 50))
    return amplified(x, uniform(-15, 3))
