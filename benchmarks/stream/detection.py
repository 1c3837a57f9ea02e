"""What is heard in sound without end, beside what is heard of the same words cut out."""

from collections.abc import Iterator, Sequence
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
"""Seconds after a recording's end within which its word may be said to be: the last of it dies away there."""
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
class Report:
    """A word that was reported at ``now``, and where it is said to be, in seconds."""

    now: float
    start: float
    end: float
    label: str


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
    alarms_an_hour_of_talk: dict[str, float]
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


def talk(data: Path) -> dict[str, NDArray[np.float32]]:
    """People who talk, float32 at 16 kHz, by what they say: the validation sentences of GRID, in which no command is
    said, and where ``data`` has the folder ``talk``, what each of its speakers says there, some of it commands.

    Raises:
        DataError: ``data`` lacks grid_s1.
    """
    sentences = read_manifest(data / "grid_s1", "val", media=("video",)).examples
    said = {"GRID's sentences": [_read(data / "grid_s1" / each["video"]) for each in sentences]}
    if (data / "talk").is_dir():
        pause = np.random.default_rng(0).normal(0, 1e-3, RATE // 2).astype(np.float32)
        for each in read_manifest(data / "talk", "val", media=("audio",)).examples:
            prompts = said.setdefault(f"prompts, {each['audio'].split('_')[0]}", [])
            prompts += [_read(data / "talk" / each["audio"]), pause]
    return {name: np.concatenate(pieces) for name, pieces in said.items()}


def detect(scene: Scene, talk: dict[str, NDArray[np.float32]], thresholds: list[float]) -> Iterator[Row]:
    """Each threshold's figures, by the code that serves."""
    pipeline = Pipeline.load(ZOO / "voice-commands")
    talked = {name: _stream(pipeline, samples, thresholds) for name, samples in talk.items()}
    heard = _stream(pipeline, scene.samples, thresholds)
    for place, threshold in enumerate(thresholds):
        alarms = {name: len(found[place]) / (len(talk[name]) / RATE / 3600) for name, found in talked.items()}
        yield _row(pipeline, scene, threshold, heard[place], alarms)


def _stream(pipeline: Pipeline, samples: NDArray[np.float32], thresholds: list[float]) -> list[list[Report]]:
    """What is reported with each threshold; the sessions share their steps."""
    streams = recurrent_streams(pipeline)
    tracks = [streams.open(streams.options.model_validate({"threshold": threshold})) for threshold in thresholds]
    found: list[list[Report]] = [[] for _ in tracks]
    for at in range(0, len(samples), CHUNK):
        now = (at + CHUNK) / RATE
        for track in tracks:
            track.feed("audio", samples[at : at + CHUNK])
        if tracks[0].ticks:
            for words, events in zip(found, streams.step([track.take() for track in tracks]), strict=True):
                said = (event for event in events if event["words"])
                words += [Report(now, event["start"], event["end"], event["text"]) for event in said]
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """What reports were: recordings ``heard``, with seconds of delay, ``wrong`` ones, and ``alarms`` in none."""

    heard: dict[int, float]
    wrong: int
    alarms: int


def told(spoken: Sequence[Spoken], reports: Sequence[Report]) -> Told:
    """Each report counts for the last recording that it overlaps, or that has ended just before.

    When it was reported says nothing: the surer a report must be the later it comes, and a right one would be an alarm.
    """
    heard: dict[int, float] = {}
    wrong = alarms = 0
    for report in reports:
        near = [i for i, word in enumerate(spoken) if word.start <= report.end and report.start <= word.end + LATE]
        if not near:
            alarms += 1
        elif spoken[near[-1]].label == report.label and near[-1] not in heard:
            heard[near[-1]] = report.now - report.end
        else:
            wrong += 1
    return Told(heard, wrong, alarms)


def _row(pipeline: Pipeline, scene: Scene, threshold: float, reports: list[Report], talked: dict[str, float]) -> Row:
    commands = [word for word in scene.spoken if word.label not in BACKGROUND]
    found = told(scene.spoken, reports)
    hours = (len(scene.samples) / RATE - sum(word.end - word.start for word in scene.spoken)) / 3600
    return Row(
        threshold,
        len(found.heard) / len(commands),
        _cut_out(pipeline, scene, commands, threshold),
        found.wrong / len(scene.spoken),
        found.alarms / hours,
        talked,
        float(np.median(list(found.heard.values()))),
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
