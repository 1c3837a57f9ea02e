"""What is heard in sound without end, beside what is heard of the same words cut out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.settings import ZOO
from models.features.audio import AudioFeatures
from models.media import MediaLimits
from models.media.audio import decode_audio
from models.pipeline import Pipeline
from models.readings.detection import BACKGROUND
from models.sequence import pad
from models.streaming.checkpoint import recurrent_streams
from models.training.manifest import read_manifest

RATE = 16_000
CHUNK = 1280
LATE = 0.4
"""Seconds after a recording's end within which its word may still be reported."""
HELD_OUT_FOLD = 4
"""The fold of environmental sounds that the checkpoint was not trained with."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A recording within the sound."""

    start: float
    end: float
    label: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Continuous sound, float32 at 16 kHz, and what is said in it."""

    samples: NDArray[np.float32]
    spoken: list[Spoken]


@dataclass(frozen=True, slots=True)
class Row:
    """Of commands, the share heard in the stream and cut out; false alarms by what they were taken from; the delay."""

    threshold: float
    hits: float
    cut_out: float
    wrong_words: float
    """Of all recorded words, commands heard as another one or twice, and other words heard as a command."""
    alarms_an_hour: float
    """In what is no word: silence and environmental sounds."""
    delay: float
    """Median seconds from where a word is said to end to its report."""


def scene(data: Path, words: int, seed: int = 0) -> Scene:
    """Validation words in random order, 0.2 to 2 s of near silence between them, and an environmental sound each ten.

    Raises:
        DataError: ``data`` lacks speech_commands or esc10.
    """
    chance = np.random.default_rng(seed)
    commands = read_manifest(data / "speech_commands", "val", media=("audio",)).examples
    noises = read_manifest(data / "esc10", "train", media=("audio",)).examples
    noises = [each for each in noises if int(each["fold"]) == HELD_OUT_FOLD]
    pieces: list[NDArray[np.float32]] = []
    spoken: list[Spoken] = []
    length = 0

    def add(samples: NDArray[np.float32]) -> None:
        nonlocal length
        pieces.append(samples)
        length += len(samples)

    for number, index in enumerate(chance.permutation(len(commands))[:words], 1):
        example = commands[index]
        recording = _read(data / "speech_commands" / example["audio"])
        if example["label"] != "silence":
            spoken.append(Spoken(length / RATE, (length + len(recording)) / RATE, example["label"]))
        add(recording)
        add(chance.normal(0, 1e-3, round(chance.uniform(0.2, 2) * RATE)).astype(np.float32))
        if number % 10 == 0:
            add(_read(data / "esc10" / noises[chance.integers(len(noises))]["audio"]))
    return Scene(np.concatenate(pieces), spoken)


def detect(scene: Scene, thresholds: list[float]) -> Iterator[Row]:
    """Each threshold's figures, by the code that serves."""
    pipeline = Pipeline.load(ZOO / "voice-commands")
    for threshold, found in zip(thresholds, _stream(pipeline, scene, thresholds), strict=True):
        yield _row(pipeline, scene, threshold, found)


def _stream(pipeline: Pipeline, scene: Scene, thresholds: list[float]) -> list[list[tuple[float, float, str]]]:
    """For each threshold, when each word was reported, where it ends, and which; the sessions share their steps."""
    streams = recurrent_streams(pipeline)
    tracks = [streams.open(streams.options.model_validate({"threshold": threshold})) for threshold in thresholds]
    found: list[list[tuple[float, float, str]]] = [[] for _ in tracks]
    for at in range(0, len(scene.samples), CHUNK):
        now = (at + CHUNK) / RATE
        for track in tracks:
            track.feed("audio", scene.samples[at : at + CHUNK])
        if tracks[0].ticks:
            for words, events in zip(found, streams.step([track.take() for track in tracks]), strict=True):
                words += [(now, event["end"], event["text"]) for event in events if event["words"]]
    return found


def _row(pipeline: Pipeline, scene: Scene, threshold: float, found: list[tuple[float, float, str]]) -> Row:
    commands = [word for word in scene.spoken if word.label not in BACKGROUND]
    heard: set[int] = set()
    wrong = alarms = 0
    delays = []
    for now, end, label in found:
        near = [index for index, word in enumerate(scene.spoken) if word.start <= now <= word.end + LATE]
        if not near:
            alarms += 1
        elif scene.spoken[near[-1]].label == label and near[-1] not in heard:
            heard.add(near[-1])
            delays.append(now - end)
        else:
            wrong += 1
    hours = (len(scene.samples) / RATE - sum(word.end - word.start for word in scene.spoken)) / 3600
    return Row(
        threshold,
        len(heard) / len(commands),
        _cut_out(pipeline, scene, commands, threshold),
        wrong / len(scene.spoken),
        alarms / hours,
        float(np.median(delays)),
    )


@torch.inference_mode()
def _cut_out(pipeline: Pipeline, scene: Scene, commands: list[Spoken], threshold: float) -> float:
    """The share of commands that are named, surely enough, where each recording is posted by itself."""
    features = pipeline.config.modalities["audio"].features
    assert isinstance(features, AudioFeatures)
    labels = pipeline.config.labels
    assert labels is not None
    heat = float(pipeline.config.defaults.get("temperature", 1.0))
    right = 0
    for word in commands:
        samples = scene.samples[round(word.start * RATE) : round(word.end * RATE)]
        frames = features.scaled(features.log_mel()(samples))
        (probabilities,) = (pipeline.network({"audio": pad([frames])}) / heat).softmax(1)
        best = int(probabilities.argmax())
        right += labels[best] == word.label and float(probabilities[best]) >= threshold
    return right / len(commands)


def _read(path: Path) -> NDArray[np.float32]:
    return decode_audio(path.read_bytes(), MediaLimits(), rate=RATE).samples
