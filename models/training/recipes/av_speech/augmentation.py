"""Sentences made different: spliced, seen otherwise, and heard in noise. All chance is torch's global generator."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.augmentation import mirror, shift
from models.training.recipes.av_speech.data import SAMPLES, Sentence

LOUDEST, FAINTEST = -5.0, 20.0
"""Signal-to-noise ratios, in dB, between which noise is mixed in."""


def chance(share: float) -> bool:
    """True in ``share`` of all cases."""
    return float(torch.rand(())) < share


def splice(first: Sentence, second: Sentence) -> Sentence:
    """The beginning of one sentence and the end of another, cut where the same place's word begins.

    The grammar's places are independent, so every cut gives a sentence that could have been said.
    """
    place = int(torch.randint(1, len(first.borders), ()))
    before, after = first.borders[place], second.borders[place]
    moved = before - after
    return Sentence(
        lips=torch.cat([first.lips[:before], second.lips[after:]]),
        sound=torch.cat([first.sound[: before * SAMPLES], second.sound[after * SAMPLES :]]),
        labels=torch.cat([first.labels[:before], second.labels[after:]]),
        tokens=first.tokens[:place] + second.tokens[place:],
        borders=first.borders[:place] + tuple(border + moved for border in second.borders[place:]),
    )


def windows(sentences: list[Sentence], spare: int, after: int = 0) -> list[Sentence]:
    """Stretches of equal length with all the words of each sentence, as long as the longest takes and ``spare`` frames.

    ``after`` frames beyond the last word, where the clip has them, count as a part of it.

    Most of a clip is silence, which costs as much as words and teaches less; and recurrent kernels are several times
    as fast where no row is padded.
    """
    ends = [min(int(each.labels.nonzero()[-1]) + 1 + after, len(each.labels)) for each in sentences]
    longest = max(end - sentence.borders[0] for end, sentence in zip(ends, sentences, strict=True))
    size = min(longest + spare, *(len(sentence.labels) for sentence in sentences))
    return [_cut(sentence, end, max(size, longest)) for end, sentence in zip(ends, sentences, strict=True)]


def _cut(sentence: Sentence, end: int, size: int) -> Sentence:
    """``size`` frames, if there are as many, from a random one on, so that the words are among them."""
    earliest = max(end - size, 0)
    latest = max(min(sentence.borders[0], len(sentence.labels) - size), earliest)
    start = int(torch.randint(earliest, latest + 1, ()))
    stop = start + size
    return Sentence(
        lips=sentence.lips[start:stop],
        sound=sentence.sound[start * SAMPLES : stop * SAMPLES],
        labels=sentence.labels[start:stop],
        tokens=sentence.tokens,
        borders=tuple(border - start for border in sentence.borders),
    )


def look(lips: Tensor, *, pixels: int = 4, longest: int = 10) -> Tensor:
    """Lips uint8 [T, H, W] moved by up to ``pixels``, mirrored, darker or lighter in the shadows, and blinked out.

    Half of all clips lose a stretch of up to ``longest`` frames, which turn grey as where no face is found.
    """
    moved = mirror(shift(lips.unsqueeze(1), pixels / lips.shape[2])).squeeze(1)
    if chance(0.5):
        gamma = float(torch.empty(()).uniform_(0.7, 1.4))
        curve = ((torch.arange(256) / 255) ** gamma * 255).round().byte()
        moved = curve[moved.long()]
    if chance(0.5):
        frames = int(torch.randint(1, longest + 1, ()))
        start = int(torch.randint(0, max(len(moved) - frames, 1), ()))
        moved = moved.clone()
        moved[start : start + frames] = 128
    return moved


def babble(voices: list[Tensor], samples: int, generator: torch.Generator | None = None) -> Tensor:
    """Several people at once, float32 [samples], each as loud as the others: each in a ring, from a random place on."""
    total = torch.zeros(samples)
    for voice in voices:
        start = int(torch.randint(0, len(voice), (), generator=generator))
        ring = voice.repeat(1 + -(-samples // len(voice)))[start : start + samples]
        total += ring / _level(ring)
    return total


def mix(sound: Tensor, noise: Tensor, decibels: float) -> Tensor:
    """``sound`` plus ``noise`` at a signal-to-noise ratio over the whole clip, scaled down where it would clip."""
    mixed = sound + noise * (_level(sound) / _level(noise) * 10 ** (-decibels / 20))
    return mixed / mixed.abs().max().clamp(min=1)


def hear(sound: Tensor, voice: Callable[[], Tensor], *, clean: float = 0.25, least: float = LOUDEST) -> Tensor:
    """Sound as it may reach a microphone: louder or softer, and but for a share ``clean`` in babble or white noise.

    ``voice`` gives another speaker's sound. Signal-to-noise ratios are even from ``least`` to 20 dB.
    """
    if not chance(clean):
        decibels = float(torch.empty(()).uniform_(least, FAINTEST))
        if chance(0.7):
            voices = [voice() for _ in range(int(torch.randint(2, 9, ())))]
            noise = babble(voices, len(sound))
        else:
            noise = torch.randn(len(sound))
        sound = mix(sound, noise, decibels)
    gain = 10 ** (float(torch.empty(()).uniform_(-20, 6)) / 20)
    return (sound * gain).clamp(-1, 1)


def dropped(present: Tensor, share: float) -> Tensor:
    """``present`` bool [B, M], of which each row lost one modality, by chance, in ``share`` of all cases."""
    rows, modalities = present.shape
    lost = F.one_hot(torch.randint(modalities, (rows,)), modalities).bool() & (torch.rand(rows, 1) < share)
    return present & ~lost


def _level(sound: Tensor) -> Tensor:
    return sound.square().mean().sqrt().clamp(min=1e-5)
