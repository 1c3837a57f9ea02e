"""GRID sentences as lips, sound and timed words, read once and kept on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.features import Modality
from models.features.audio import AudioFeatures
from models.features.mouth import MouthFeatures
from models.features.text import TextTokenizer
from models.media.errors import MediaError
from models.media.limits import MediaLimits
from models.training.manifest import DataError, Manifest, read_manifest
from models.training.ragged import Ragged, cached_ragged

GRAMMAR = (
    ("bin", "lay", "place", "set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("abcdefghijklmnopqrstuvxyz"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
"""Places of a GRID sentence, 51 words (Cooke et al. 2006): command, colour, preposition, letter, digit, adverb."""

RATE = 16_000
FPS = 25
SAMPLES = RATE // FPS
"""Sound samples a frame."""

_MOST_BYTES = 4e9


@dataclass(frozen=True, slots=True)
class Sentence:
    """What is seen, heard and said: ``lips`` uint8 [T, H, W], ``sound`` float32 [N] at 16 kHz.

    ``labels`` int64 [T] says which token is being said in each frame, or 0, the blank; ``borders`` are the frames at
    which each word begins.
    """

    lips: Tensor
    sound: Tensor
    labels: Tensor
    tokens: tuple[int, ...]
    borders: tuple[int, ...]


class SpeechData:
    """Both splits; ``tokenizer`` knows the words of the grammar. Of lips that are not asked for, only the number is."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        modalities: tuple[Modality, ...] = ("audio", "video"),
        mouth: MouthFeatures | None = None,
    ) -> None:
        self.tokenizer = TextTokenizer.build([word for place in GRAMMAR for word in place])
        self.manifests = {split: read_manifest(folder, split, media=("video",)) for split in ("train", "val")}
        mouth, sound = mouth or MouthFeatures(), AudioFeatures(sample_rate=RATE)
        limits = MediaLimits()

        def lips(data: bytes) -> Tensor:
            return mouth.extract(mouth.decode("video", {"video": [data]}, limits, 1))

        def samples(data: bytes) -> Tensor:
            heard = sound.decode("audio", {"video": [data]}, limits, 1)
            if not heard:
                raise DataError("it has no sound")
            return torch.from_numpy(heard[0].samples)

        self._lips = {
            split: _cached(manifest, cache, "lips", lips, mouth.model_dump())
            for split, manifest in self.manifests.items()
            if "video" in modalities
        }
        self._sound = {
            split: _cached(manifest, cache, "sound", samples, {"rate": RATE})
            for split, manifest in self.manifests.items()
        }
        self._timed = {
            split: [self._words(manifest, row) for row in range(len(manifest.examples))]
            for split, manifest in self.manifests.items()
        }

    def sentence(self, split: str, row: int) -> Sentence:
        """One example. Sound is cut or filled up to the length of the lips."""
        sound = self._sound[split][row]
        lips = self._lips[split][row] if self._lips else torch.zeros(round(len(sound) / SAMPLES), 0, 0)
        missing = len(lips) * SAMPLES - len(sound)
        sound = torch.nn.functional.pad(sound, (0, missing)) if missing > 0 else sound[: len(lips) * SAMPLES]
        labels = torch.full((len(lips),), self.tokenizer.pad)
        timed = self._timed[split][row]
        for token, start, end in timed:
            labels[start:end] = token
        return Sentence(
            lips, sound, labels, tuple(token for token, _, _ in timed), tuple(start for _, start, _ in timed)
        )

    def count(self, split: str) -> int:
        """Examples of a split."""
        return len(self.manifests[split].examples)

    def text(self, split: str, row: int) -> list[str]:
        """The words of an example."""
        return self.tokenizer.words([token for token, _, _ in self._timed[split][row]])

    def _words(self, manifest: Manifest, row: int) -> list[tuple[int, int, int]]:
        """Tokens with the frames from which and until which they are said, at least one each."""
        example, where = manifest.examples[row], f"{manifest.split}.jsonl, line {manifest.lines[row]}"
        try:
            said = [(word, float(start), float(end)) for word, start, end in example["words"] if word not in _SILENCE]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: `words` must be a list of [word, start in s, end in s]") from error
        words = [word for word, _, _ in said]
        strange = [word for place, word in zip(GRAMMAR, words, strict=False) if word not in place]
        if len(words) != len(GRAMMAR) or strange:
            raise DataError(f"{where}: '{' '.join(words)}' is not a sentence of the GRID grammar")
        return [
            (self.tokenizer.encode(word)[0], round(start * FPS), max(round(end * FPS), round(start * FPS) + 1))
            for word, start, end in said
        ]


_SILENCE = ("sil", "sp")


def _cached(
    manifest: Manifest, cache: Path, label: str, read: Callable[[bytes], Tensor], settings: dict[str, Any]
) -> Ragged:
    names = [str(example["video"]) for example in manifest.examples]

    def compute(row: int) -> tuple[Tensor | None, list[str]]:
        try:
            return read(manifest.path(manifest.examples[row], "video").read_bytes()), []
        except (MediaError, DataError) as error:
            raise DataError(f"{manifest.split}.jsonl, line {manifest.lines[row]}, {names[row]}: {error}") from error

    key = {"data": names, "settings": settings}
    return cached_ragged(cache, f"{label}-{manifest.split}", key, len(names), compute, most_bytes=_MOST_BYTES)
