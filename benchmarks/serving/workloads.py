"""What is sent: four kinds of media of drawn sizes, each to the checkpoints that read it."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

import models
from benchmarks.serving.media import photo, sentence, sound, talking_face

ZOO = Path(next(iter(models.__path__))) / "zoo"


@dataclass(frozen=True, slots=True)
class Workload:
    """``draw`` makes one item; ``objective`` is the latency that 99 of 100 requests must keep, in seconds."""

    name: str
    model: str
    part: str
    objective: float
    items: int
    told: str
    draw: Callable[[Generator], bytes]

    @property
    def shipped(self) -> bool:
        """Whether the checkpoint is in the zoo."""
        return (ZOO / self.model / "config.json").is_file()

    def folder(self, folder: Path, seed: int = 0) -> Path:
        """Where in ``folder`` the items lie: two checkpoints that read sounds get the same ones."""
        return folder / f"{self.part}-{self.items}-{seed}"

    def pool(self, folder: Path, seed: int = 0) -> list[bytes]:
        """The distinct items that requests are drawn from, the same for every server; made once, kept in ``folder``."""
        place = self.folder(folder, seed)
        if not place.is_dir():
            made = place.with_suffix(".new")
            made.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(seed)
            for number in range(self.items):
                (made / f"{number:03d}").write_bytes(self.draw(rng))
            made.rename(place)
        return [path.read_bytes() for path in sorted(place.iterdir())]


def _photo(rng: Generator) -> bytes:
    return photo(rng, math.exp(rng.uniform(math.log(0.05), math.log(12))))


def _sound(rng: Generator) -> bytes:
    seconds = float(np.clip(math.exp(rng.normal(math.log(3), 0.8)), 0.5, 30))
    return sound(rng, seconds, str(rng.choice(["WAV", "MP3"])))


def _text(rng: Generator) -> bytes:
    return sentence(rng, round(math.exp(rng.uniform(math.log(3), math.log(300)))), _words())


def _clip(rng: Generator) -> bytes:
    return talking_face(rng, 3.0)


def _words() -> list[str]:
    vocabulary = json.loads((ZOO / "sentiment" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return [word for word, _ in sorted(vocabulary.items(), key=lambda pair: int(pair[1])) if word.isascii()][3:5000]


_PHOTOS = "JPEG of 0.05 to 12 megapixels, log-uniform"
_SOUNDS = "0.5 to 30 s, log-normal around 3 s (sigma 0.8), WAV or MP3 alike"
_TEXTS = "3 to 300 words, log-uniform"
_CLIPS = "MP4 of 3 s, 360 x 288, 25 frames a second, with sound"

WORKLOADS = (
    Workload("w1", "captioner", "image", 1.5, 48, _PHOTOS, _photo),
    Workload("w2 events", "sound-events", "audio", 0.5, 96, _SOUNDS, _sound),
    Workload("w2 commands", "voice-commands", "audio", 0.5, 96, _SOUNDS, _sound),
    Workload("w3", "sentiment", "text", 0.25, 256, _TEXTS, _text),
    Workload("w4", "av-speech", "video", 1.5, 12, _CLIPS, _clip),
)
