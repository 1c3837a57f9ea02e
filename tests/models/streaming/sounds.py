"""Made-up sounds that the shipped network takes for words now and then."""

import math

import numpy as np

RATE = 16_000


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Syllables of one vowel that glides into another, more than half of the time silence, float32 [n]."""
    rng = np.random.default_rng([25, seed])  # of some that were tried, with words in each sound that tests use
    time = np.arange(round(seconds * RATE)) / RATE
    syllables = time * rng.uniform(1.4, 2)
    pitch = rng.uniform(100, 180)
    number, within = syllables.astype(int), syllables % 1
    # Where a vowel's two formants lie at a syllable's begin and end, in hertz.
    ends = rng.uniform([250, 800], [800, 2300], (int(syllables[-1]) + 2, 2, 2))
    glide = np.clip(within / 0.45, 0, 1)[:, None]
    formants = ends[number, 0] * (1 - glide) + ends[number, 1] * glide
    sound = rng.normal(0, 1e-3, len(time))
    envelope = np.where(within < 0.45, 0.25 * np.sin(math.pi * within / 0.45), 0)
    for harmonic in pitch * np.arange(1, 30):
        loudness = np.exp(-(((harmonic - formants) / 120) ** 2)) @ (1, 0.6)
        sound += envelope * loudness * np.sin(2 * math.pi * harmonic * time)
    return np.asarray(np.clip(sound, -1, 1), np.float32)


def tones(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that glide, in bursts, float32 [n]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    glide = np.sin(2 * math.pi * (300 + 900 * np.sin(time * rng.uniform(2, 5))) * time)
    bursts = np.clip(np.sin(2 * math.pi * time * rng.uniform(0.5, 1.5)), 0, 1)
    sound = 0.5 * glide * bursts + rng.normal(0, 1e-3, len(time))
    return np.asarray(sound, np.float32)
