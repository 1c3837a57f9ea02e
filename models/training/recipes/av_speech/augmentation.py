"""Sentences made different: spliced, hastened, seen otherwise, and heard in noise.

All chance is torch's global generator.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from models.training.augmentation import mirror, shift
from models.training.recipes.av_speech.data import RATE, SAMPLES, Sentence
from models.training.recipes.waveforms import band_passed, chance, choice, in_a_room, placed, speed, uniform

LOUDEST, FAINTEST = -5.0, 20.0
"""Signal-to-noise ratios, in dB, between which noise is mixed in."""


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


def hasten(sentence: Sentence, *, most: float = 1.15) -> Sentence:
    """A sentence up to ``most`` times as fast and high, or as slow and deep; as it is where a word would get lost."""
    frames = len(sentence.labels)
    size = max(round(frames / most ** uniform(-1, 1)), 1)
    taken = ((torch.arange(size) + 0.5) * frames / size).long()
    labels = sentence.labels[taken]
    if not set(sentence.tokens) <= set(labels.tolist()):
        return sentence
    return Sentence(
        lips=sentence.lips[taken],
        sound=placed(speed(sentence.sound, frames / size), size * SAMPLES, 0),
        labels=labels,
        tokens=sentence.tokens,
        borders=tuple(round(border * size / frames) for border in sentence.borders),
    )


def turn(lips: Tensor, *, degrees: float = 12.0, size: float = 1.18, aspect: float = 1.1) -> Tensor:
    """Lips uint8 [T, H, W] tilted by up to ``degrees``, larger or smaller by up to ``size``, wider or higher."""
    height, width = lips.shape[1:]
    angle = math.radians(uniform(-degrees, degrees))
    scale, wide = size ** uniform(-1, 1), aspect ** uniform(-0.5, 0.5)
    # Coordinates go from -1 to 1 along either side, so what turns them has the sides' ratio in it.
    across = torch.tensor([math.cos(angle), -math.sin(angle) * height / width, 0.0]) / (scale * wide)
    down = torch.tensor([math.sin(angle) * width / height, math.cos(angle), 0.0]) / (scale / wide)
    grid = F.affine_grid(torch.stack([across, down]).unsqueeze(0), [1, 1, height, width], align_corners=False)
    turned = F.grid_sample(lips.float().unsqueeze(0), grid, padding_mode="border", align_corners=False)
    return turned.squeeze(0).round().byte()


def blur(lips: Tensor) -> Tensor:
    """Lips uint8 [T, H, W], each pixel mixed with its neighbours."""
    kernel = torch.tensor([0.25, 0.5, 0.25])
    padded = F.pad(lips.float().unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, torch.outer(kernel, kernel).view(1, 1, 3, 3)).squeeze(1).round().byte()


def cover(lips: Tensor) -> Tensor:
    """Lips uint8 [T, H, W] with something plain before them, 15 to 45 % as high and wide."""
    height, width = (round(uniform(0.15, 0.45) * side) for side in lips.shape[1:])
    top, left = (int(uniform(0, side - part)) for side, part in zip(lips.shape[1:], (height, width), strict=True))
    covered = lips.clone()
    covered[:, top : top + height, left : left + width] = choice(256)
    return covered


def askew(lips: Tensor) -> Tensor:
    """Lips as another camera may see them: most are turned, some out of focus, some partly covered."""
    lips = turn(lips) if chance(0.7) else lips
    lips = blur(lips) if chance(0.2) else lips
    return cover(lips) if chance(0.25) else lips


def look(lips: Tensor, *, pixels: int = 4, longest: int = 10) -> Tensor:
    """Lips uint8 [T, H, W] moved by up to ``pixels``, mirrored, darker or lighter in the shadows, and blinked out.

    Half of all clips lose a stretch of up to ``longest`` frames, which turn grey as where no face is found.
    """
    moved = mirror(shift(lips.unsqueeze(1), pixels / lips.shape[2])).squeeze(1)
    if chance(0.5):
        gamma = uniform(0.7, 1.4)
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
        decibels = uniform(least, FAINTEST)
        if chance(0.7):
            voices = [voice() for _ in range(int(torch.randint(2, 9, ())))]
            noise = babble(voices, len(sound))
        else:
            noise = torch.randn(len(sound))
        sound = mix(sound, noise, decibels)
    gain = 10 ** (uniform(-20, 6) / 20)
    return (sound * gain).clamp(-1, 1)


def estrange(sound: Tensor, voice: Callable[[], Tensor], *, least: float) -> Tensor:
    """Another voice, float32 [N]: up to a third higher and faster or lower and slower, between near silences.

    Some are heard in a room, some through a telephone, and most, as ``hear`` has it, in noise.
    """
    sound = speed(sound, 2 ** uniform(-0.4, 0.4))
    sound = torch.cat([_near_silence(), sound, _near_silence()])
    if chance(0.2):
        sound = in_a_room(sound, RATE, uniform(0.1, 0.8), uniform(-12, 0))
    if chance(0.15):
        sound = band_passed(sound, RATE, uniform(50, 300), uniform(3000, 6000))
    return hear(sound, voice, least=least)


def dropped(present: Tensor, share: float) -> Tensor:
    """``present`` bool [B, M], of which each row lost one modality, by chance, in ``share`` of all cases."""
    rows, modalities = present.shape
    lost = F.one_hot(torch.randint(modalities, (rows,)), modalities).bool() & (torch.rand(rows, 1) < share)
    return present & ~lost


def _near_silence() -> Tensor:
    return torch.randn(int(uniform(0.05, 0.6) * RATE)) * 10 ** uniform(-4, -2.3)


def _level(sound: Tensor) -> Tensor:
    return sound.square().mean().sqrt().clamp(min=1e-5)
