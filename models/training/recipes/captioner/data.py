"""Photos with captions in two languages: tokens, and the CNN's lower blocks' output for a few views of each photo."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoders.image import PhotoEncoder
from models.features.image import ImageFeatures
from models.features.text import TextTokenizer, frequent, split_words
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.training.cache import FeatureArray, cached_features
from models.training.manifest import DataError, Manifest, read_manifest
from models.training.recipes.captioner.views import VIEWS, view_of

LANGUAGES = ("en", "zh")
# Words rarer than this are not written; Chinese is written in characters, of which rarer ones still recur.
MINIMUM_COUNT = {"en": 4, "zh": 3}
LONGEST = {"en": 20, "zh": 18}
CUT = 8
"""Blocks of the CNN that stay as they are; their output is 80 x 14 x 14."""
IMAGE_SIZE = 224


class CaptionData:
    """Both splits: photos as the lower CNN's output, captions as words and as token ids."""

    def __init__(self, folder: Path, cache: Path, cnn: PhotoEncoder) -> None:
        self.manifests = {split: read_manifest(folder, split, media=("image",)) for split in ("train", "val")}
        self.words = {
            split: [
                {language: [split_words(text) for text in _captions(example, language)] for language in LANGUAGES}
                for example in manifest.examples
            ]
            for split, manifest in self.manifests.items()
        }
        self.tokenizer = self._tokenizer()
        self.tokens = {language: self._tokens(language) for language in LANGUAGES}
        self.lower = {
            split: _lower(manifest, cache, cnn, VIEWS if split == "train" else 1)
            for split, manifest in self.manifests.items()
        }

    def spoken(self) -> Tensor:
        """Which tokens each language may write: uint8 [L, V]."""
        spoken = torch.zeros(len(LANGUAGES), self.tokenizer.size, dtype=torch.uint8)
        for row, language in enumerate(LANGUAGES):
            words = frequent(self._counts(language), MINIMUM_COUNT[language])
            spoken[row, [index for word in words for index in self.tokenizer.encode(word)]] = 1
            spoken[row, self.tokenizer.unknown] = 0
            spoken[row, self.tokenizer.end] = 1
        return spoken

    def _counts(self, language: str) -> Counter[str]:
        return Counter(word for photo in self.words["train"] for caption in photo[language] for word in caption)

    def _tokenizer(self) -> TextTokenizer:
        words = [word for lang in LANGUAGES for word in frequent(self._counts(lang), MINIMUM_COUNT[lang])]
        return TextTokenizer.build(words, LANGUAGES)

    def _tokens(self, language: str) -> Tensor:
        """Training captions [N, K, T + 1], ended and padded, each photo's longest first."""
        end = self.tokenizer.end
        photos = self.words["train"]
        longest, most = LONGEST[language], max(len(photo[language]) for photo in photos)
        tokens = torch.full((len(photos), most, longest + 1), self.tokenizer.pad)
        for row, photo in enumerate(photos):
            encoded = sorted((self.tokenizer.encode(" ".join(c)) for c in photo[language]), key=len, reverse=True)
            for column, caption in enumerate(encoded):
                ids = [*caption, end] if len(caption) <= longest else caption[: longest + 1]
                tokens[row, column, : len(ids)] = torch.tensor(ids)
        return tokens


def _captions(example: dict[str, Any], language: str) -> list[str]:
    captions = example.get("captions", {}).get(language)
    if not captions:
        raise DataError(f"{example.get('image')} has no '{language}' captions")
    return list(captions)


def _lower(manifest: Manifest, cache: Path, encoder: PhotoEncoder, views: int) -> FeatureArray:
    """fp16 [N, views, C, h, w]: what the first ``CUT`` blocks say about the first views of each photo."""
    resize = ImageFeatures(size=IMAGE_SIZE)

    @torch.inference_mode()
    def compute(first: int) -> Iterator[NDArray[np.float32]]:
        for row, example in enumerate(manifest.examples[first:], first):
            data = manifest.path(example, "image").read_bytes()
            picture = decode_image(data, MediaLimits(), target=IMAGE_SIZE)
            pixels = resize.extract([view_of(picture, row, view) for view in range(views)])
            # One view at a time: what lies between the layers then stays in the cache, which is four times as fast.
            lower = [encoder.cnn.lower(pixels[[view]].float() / 127.5 - 1, CUT) for view in range(views)]
            yield torch.cat(lower).numpy()

    key = {"data": [str(e["image"]) for e in manifest.examples], "cut": CUT, "weights": _fingerprint(encoder)}
    with torch.inference_mode():
        _, *maps = encoder.cnn.lower(torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE), CUT).shape
    shape = (len(manifest.examples), views, *maps)
    return cached_features(cache, key, shape, compute, label=f"photos-{manifest.split}")


def _fingerprint(encoder: PhotoEncoder) -> float:
    lower = (encoder.cnn.stem, *encoder.cnn.blocks[:CUT])
    return sum(float(p.detach().double().abs().sum()) for part in lower for p in part.parameters())
