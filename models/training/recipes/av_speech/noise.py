"""The noise that measurements are made in, the same in every run: babble of voices that no sentence measured has."""

from dataclasses import replace

import torch

from models.training.recipes.av_speech.augmentation import babble, mix
from models.training.recipes.av_speech.data import Sentence, SpeechData

VOICES = 6
"""People who speak in the background: sentences of the training split."""


def noisy(sentence: Sentence, data: SpeechData, row: int, decibels: float | None) -> Sentence:
    """Sentence ``row`` of the validation split in babble at a signal-to-noise ratio; as it is without one."""
    if decibels is None:
        return sentence
    generator = torch.Generator().manual_seed(row)
    rows = torch.randint(data.count("train"), (VOICES,), generator=generator).tolist()
    noise = babble([data.sentence("train", one).sound for one in rows], len(sentence.sound), generator)
    return replace(sentence, sound=mix(sentence.sound, noise, decibels))
