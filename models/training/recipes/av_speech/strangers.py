"""Sentences of the GRID grammar by other voices than GRID's speaker: sound, and words that nobody has timed."""

from pathlib import Path

import torch
from torch import Tensor

from models.features.text import TextTokenizer
from models.training.manifest import DataError, read_manifest
from models.training.recipes.av_speech.data import RATE
from models.training.recipes.waveforms import Waveforms, choice

VOICES = "grid_voices"
"""The folder of them, beside that of GRID."""
_HEARD = 0.01
"""Of full scale, from which on a sample is no silence."""
_PEAK = 0.5


class Strangers:
    """The split ``split`` of a folder whose lines have ``audio`` and ``text``; ``voices.py`` makes one."""

    def __init__(self, folder: Path, split: str, tokenizer: TextTokenizer, cache: Path) -> None:
        manifest = read_manifest(folder, split, media=("audio",))
        self._sounds = Waveforms(manifest, RATE, cache)
        self._tokens: list[Tensor] = []
        for example, line in zip(manifest.examples, manifest.lines, strict=True):
            tokens = tokenizer.encode(str(example.get("text", "")))
            if not tokens or tokenizer.unknown in tokens:
                raise DataError(f"{folder / split}.jsonl, line {line}: `text` must be words of the GRID grammar")
            self._tokens.append(torch.tensor(tokens))

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Sound float32 [N] at 16 kHz from its first noise to its last, all as loud, and its tokens int64 [L]."""
        sound = self._sounds[row]
        heard = (sound.abs() > _HEARD).nonzero()
        if len(heard):
            sound = sound[int(heard[0]) : int(heard[-1]) + 1]
        return sound * (_PEAK / sound.abs().max().clamp(min=_HEARD)), self._tokens[row]

    def draw(self) -> tuple[Tensor, Tensor]:
        """Any of them."""
        return self[choice(len(self))]
