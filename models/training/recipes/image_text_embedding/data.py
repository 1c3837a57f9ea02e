"""Photos as what the CNN makes of them, and their captions as tokens of both languages."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoders.image import MobileNetEncoder
from models.encoders.mobilenet import CHANNELS, STRIDE
from models.training.cache import FeatureArray, cached_features
from models.training.recipes.captioner.data import CUT, IMAGE_SIZE, LANGUAGES, CaptionData
from models.training.trainer import multiplies_bf16

FROZEN_VIEWS = (0, 3)
"""Views of each photo that the first stage sees, as it is and cropped and mirrored: 125 kB each on disk."""


class PairData:
    """The captioner's photos and captions, and the photos as the CNN's output while it stays as it is.

    ``themes`` are unit vectors float32 [N, 384] of what each training photo's English captions speak of.
    """

    def __init__(self, captions: CaptionData, cache: Path, cnn: MobileNetEncoder, themes: Tensor) -> None:
        self.themes = themes
        self.lower = captions.lower
        self.photos = len(captions.words["train"])
        pad_id, end = captions.tokenizer.pad, captions.tokenizer.end
        self.tokens = {language: ids.masked_fill(ids == end, pad_id) for language, ids in captions.tokens.items()}
        self.lengths = {language: (ids != pad_id).sum(2).clamp(min=1) for language, ids in self.tokens.items()}
        self.val = {
            language: [
                torch.tensor(captions.tokenizer.encode(" ".join(words)) or [captions.tokenizer.unknown])
                for photo in captions.words["val"]
                for words in photo[language]
            ]
            for language in LANGUAGES
        }
        counts = {language: [len(photo[language]) for photo in captions.words["val"]] for language in LANGUAGES}
        self.val_photos = {language: np.repeat(np.arange(len(most)), most) for language, most in counts.items()}
        self.maps = {
            split: _upper(lower, FROZEN_VIEWS if split == "train" else (0,), split, cache, cnn)
            for split, lower in captions.lower.items()
        }


def _upper(
    lower: FeatureArray, views: tuple[int, ...], split: str, cache: Path, encoder: MobileNetEncoder
) -> FeatureArray:
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
