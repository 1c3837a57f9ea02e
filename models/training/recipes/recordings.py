"""How well a checkpoint answers to recordings as people post them: other formats, rates, levels and lengths."""

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import soxr
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from models.pipeline import Pipeline

Samples = NDArray[np.float32]
_QUIET = 1e-3
"""Standard deviation of the noise in which short sounds are placed: -60 dB."""


def encoded(samples: Samples, rate: int, target: int, codec: str, container: str) -> bytes:
    """Mono samples as a stereo file of another rate."""
    sound = soxr.resample(samples, rate, target)
    frame = av.AudioFrame.from_ndarray(np.stack([sound, sound]).astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = target, 0
    file = BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=target, layout="stereo")
        assert isinstance(stream, AudioStream)
        context = stream.codec_context
        fitted = av.AudioResampler(context.format, "stereo", target, context.frame_size or None)
        for part in [*fitted.resample(frame), *fitted.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


def surrounded(samples: Samples, rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """The sound somewhere in as many seconds of near silence."""
    quiet = rng.normal(0, _QUIET, max(round(seconds * rate), len(samples))).astype(np.float32)
    start = int(rng.integers(len(quiet) - len(samples) + 1))
    quiet[start : start + len(samples)] += samples
    return quiet


def recordings(
    folder: Path,
    sounds: Sequence[Samples],
    rate: int,
    labels: Sequence[str],
    quiet: float,
    more: Mapping[str, Callable[[Samples], Samples]] | None = None,
) -> dict[str, float]:
    """Accuracy of the checkpoint in ``folder`` on files that hold the sounds, by what was done to them.

    Args:
        quiet: seconds of near silence in which the sounds are also placed.
        more: other changes, by what they are called.
    """
    pipeline = Pipeline.load(folder)
    rng = np.random.default_rng(0)

    def wave(samples: Samples) -> bytes:
        return encoded(samples, rate, rate, "pcm_s16le", "wav")

    def filed(changed: Callable[[Samples], Samples]) -> Callable[[Samples], bytes]:
        return lambda x: wave(changed(x))

    def louder(samples: Samples, decibels: float) -> Samples:
        return np.asarray(np.clip(samples * 10 ** (decibels / 20), -1, 1), np.float32)

    changes: dict[str, Callable[[Samples], bytes]] = {
        "WAV": wave,
        "MP3, 44.1 kHz, stereo": lambda x: encoded(x, rate, 44_100, "mp3", "mp3"),
        "M4A, 48 kHz, stereo": lambda x: encoded(x, rate, 48_000, "aac", "mp4"),
        "20 dB softer": lambda x: wave(louder(x, -20)),
        "6 dB louder, clipped": lambda x: wave(louder(x, 6)),
        f"in {quiet:g} s of quiet": lambda x: wave(surrounded(x, rate, quiet, rng)),
    }
    changes |= {name: filed(changed) for name, changed in (more or {}).items()}
    return {
        name: round(float(np.mean([_answer(pipeline, change(x)) == y for x, y in zip(sounds, labels, strict=True)])), 4)
        for name, change in changes.items()
    }


def _answer(pipeline: Pipeline, data: bytes) -> str:
    label: str = pipeline.answer({"audio": data}).model_dump()["predictions"][0]["label"]
    return label
