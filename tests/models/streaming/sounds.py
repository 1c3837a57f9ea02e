"""Made-up sound that the shipped network takes for words now and then."""

import math

import numpy as np

RATE = 16_000


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that glide, in bursts, float32 [n]."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    glide = np.sin(2 * math.pi * (300 + 900 * np.sin(time * rng.uniform(2, 5))) * time)
    bursts = np.clip(np.sin(2 * math.pi * time * rng.uniform(0.5, 1.5)), 0, 1)
    sound = 0.5 * glide * bursts + rng.normal(0, 1e-3, len(time))
    return np.asarray(sound, np.float32)
