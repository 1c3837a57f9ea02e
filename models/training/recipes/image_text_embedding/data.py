"""Photos as what the CNN makes of them, and their captions as tokens of both languages."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoders.image import PhotoEncoder
from models.encoders.mobilenet import CHANNELS, STRIDE
from models.features.text import TextTokenizer, frequent, is_spaceless
from models.training.cache import FeatureArray, cached_features
from models.training.recipes.captioner.data import CUT, IMAGE_SIZE, LANGUAGES, CaptionData
from models.training.trainer import multiplies_bf16

MOST_TOKENS = 40
"""Of a training caption; longer ones are cut."""
PAIRS = 3
"""How often two Chinese characters must stand together to be read as a word."""
FROZEN_VIEWS = (0, 3)
"""Views of each photo that the first stage sees, as it is and cropped and mirrored: 125 kB each on disk."""


class PairData:
    """The captioner's photos and captions, and the photos as the CNN's output while it stays as it is.

    ``tokens`` are the training captions by language, int64 [N, captions, ``MOST_TOKENS``], padded behind their
    ``lengths`` [N, captions].

    ``themes`` are unit vectors float32 [N, 384] of what each training photo's English captions speak of.
    """

    def __init__(self, captions: CaptionData, cache: Path, cnn: PhotoEncoder, themes: Tensor) -> None:
        self.themes = themes
        self.lower = captions.lower
        self.photos = len(captions.words["train"])
        self.tokenizer = with_pairs(captions)
        self.tokens = {language: self._tokens(captions, language) for language in LANGUAGES}
        self.lengths = {
            language: (ids != self.tokenizer.pad).sum(2).clamp(min=1) for language, ids in self.tokens.items()
        }
        self.val = {
            language: [self._encoded(words) for photo in captions.words["val"] for words in photo[language]]
            for language in LANGUAGES
        }
        counts = {language: [len(photo[language]) for photo in captions.words["val"]] for language in LANGUAGES}
        self.val_photos = {language: np.repeat(np.arange(len(most)), most) for language, most in counts.items()}
        self.maps = {
            split: _upper(lower, FROZEN_VIEWS if split == "train" else (0,), split, cache, cnn)
            for split, lower in captions.lower.items()
        }

    def _encoded(self, words: Sequence[str]) -> Tensor:
        return torch.tensor(self.tokenizer.encode(" ".join(words)) or [self.tokenizer.unknown])

    def _tokens(self, captions: CaptionData, language: str) -> Tensor:
        photos = [photo[language] for photo in captions.words["train"]]
        tokens = torch.full((len(photos), max(map(len, photos)), MOST_TOKENS), self.tokenizer.pad)
        for row, photo in enumerate(photos):
            for column, words in enumerate(photo):
                ids = self._encoded(words)[:MOST_TOKENS]
                tokens[row, column, : len(ids)] = ids
        return tokens


def with_pairs(captions: CaptionData) -> TextTokenizer:
    """The captions' vocabulary, and the pairs of Chinese characters that recur in it."""
    counts = Counter(
        first + second
        for photo in captions.words["train"]
        for words in photo["zh"]
        for first, second in pairwise(words)
        if is_spaceless(first) and is_spaceless(second)
    )
    return captions.tokenizer.extended(frequent(counts, PAIRS))


def _upper(lower: FeatureArray, views: tuple[int, ...], split: str, cache: Path, encoder: PhotoEncoder) -> FeatureArray:
    """fp16 [N, views, 1280, 7, 7]: what the whole CNN says about some views of each photo."""

    @torch.inference_mode()
    def compute(first: int) -> Iterator[NDArray[np.float32]]:
        for start in range(first, len(lower), 32):
            block = torch.from_numpy(lower[start : start + 32][:, views].astype(np.float32))
            with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
                maps = encoder.cnn.upper(block.flatten(0, 1), CUT).float()
            yield from maps.reshape(*block.shape[:2], *maps.shape[1:]).numpy()

    side = IMAGE_SIZE // STRIDE
    weights = sum(float(parameter.detach().double().abs().sum()) for parameter in encoder.cnn.parameters())
    key = {"weights": weights, "cut": CUT, "views": views}
    return cached_features(cache, key, (len(lower), len(views), CHANNELS, side, side), compute, label=f"maps-{split}")
