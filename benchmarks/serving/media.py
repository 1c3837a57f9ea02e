"""Media made on the spot, as costly to decode as real ones: what a workload sends."""

import io
from functools import cache

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from tests.models.features.faces import face
from tests.models.media.make import clip

_GRAIN = 5.0
_QUALITY = 88
_FPS = 25
_RATE = 48_000


def photo(rng: Generator, megapixels: float) -> bytes:
    """A JPEG whose spectrum falls as 1/f, with a camera's grain: about as many bytes a pixel as a photo has."""
    aspect = float(rng.choice([4 / 3, 3 / 2, 16 / 9, 3 / 4]))
    height = round((1e6 * megapixels / aspect) ** 0.5)
    size = (round(height * aspect), height)
    large = Image.fromarray(_scene(int(rng.integers(4)))).resize(size, Image.Resampling.BICUBIC)
    noise = rng.integers(-128, 128, (512, 512, 1), dtype=np.int16) * (_GRAIN / 74)
    tiled = np.tile(noise, (height // 512 + 1, size[0] // 512 + 1, 1))[:height, : size[0]]
    pixels = np.clip(np.asarray(large) + tiled, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


@cache
def _scene(seed: int, height: int = 768, width: int = 1024) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1.0
    # Three colours that mostly agree, as they do in nature.
    spectrum = np.fft.rfft2(rng.normal(size=(3, height, width))) / frequency
    own = np.fft.irfft2(spectrum, s=(height, width))
    mixed = 0.8 * own[:1] + 0.2 * own
    scaled = 128 + 50 * (mixed - mixed.mean((1, 2), keepdims=True)) / mixed.std((1, 2), keepdims=True)
    scene: NDArray[np.uint8] = np.clip(scaled, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return scene


def sound(rng: Generator, seconds: float, kind: str) -> bytes:
    """A WAV at 16 kHz or an MP3 at 44.1 kHz in stereo: bursts of noise and gliding tones."""
    rate, channels = (16_000, 1) if kind == "WAV" else (44_100, 2)
    time = np.arange(round(seconds * rate)) / rate
    glide = np.sin(2 * np.pi * (200 + 400 * rng.random()) * time * (1 + 0.2 * np.sin(2 * np.pi * 0.5 * time)))
    bursts = np.sin(2 * np.pi * (1 + 2 * rng.random()) * time) > 0
    wave = 0.3 * glide + 0.1 * bursts * rng.normal(size=len(time))
    file = io.BytesIO()
    soundfile.write(file, np.repeat(wave[:, None], channels, 1).astype(np.float32), rate, format=kind)
    return file.getvalue()


def sentence(rng: Generator, words: int, vocabulary: list[str]) -> bytes:
    """Words by Zipf's law, the vocabulary's first the commonest."""
    chances = 1 / np.arange(1, len(vocabulary) + 1)
    chosen = rng.choice(len(vocabulary), size=words, p=chances / chances.sum())
    return " ".join(vocabulary[index] for index in chosen).encode()


def talking_face(rng: Generator, seconds: float) -> bytes:
    """An MP4 of 360 x 288 pixels at 25 frames a second with sound: a drawn face whose lips move."""
    x, y, size = 180 + 20 * rng.normal(), 140 + 8 * rng.normal(), 110 + 8 * rng.normal()
    pace = 2 + 3 * rng.random()
    count = round(seconds * _FPS)
    opened = 0.5 + 0.5 * np.sin(2 * np.pi * pace * np.arange(count) / _FPS)
    grain = rng.integers(-6, 7, (288, 360, 1), dtype=np.int16)
    frames = []
    for index in range(count):
        drawn = face(x, y, size, opened=float(opened[index]), height=288, width=360)
        frames.append(np.clip(drawn + np.roll(grain, 7 * index, 1), 0, 255).astype(np.uint8))
    time = np.arange(round(seconds * _RATE)) / _RATE
    voice = 0.3 * np.sin(2 * np.pi * 140 * time) * (0.5 + 0.5 * np.sin(2 * np.pi * pace * time))
    return clip(frames, rate=_FPS, sound=voice.astype(np.float32)[:, None])
