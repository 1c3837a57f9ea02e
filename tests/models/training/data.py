"""Data folders that tests make: small pictures, tones, words and vectors, with targets of every kind."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from models.features.text import TextTokenizer
from models.training.corpus import Corpus, load_corpus
from models.training.experiment import Experiment
from models.training.report import Faults
from models.training.splits import read_splits
from models.training.targets import Target

COLOURS = {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}
TONES = {"blue": 300, "green": 900, "red": 2700}
LABELS = list(COLOURS)

Change = Callable[[str, list[dict[str, Any]]], None]


def make_data(
    folder: Path, *, train: int = 24, val: int = 12, vectors: bool = False, change: Change | None = None
) -> Path:
    """A folder whose examples tell their colour by a picture, a tone and a sentence.

    Args:
        vectors: whether ready vectors stand under ``video``.
        change: may alter the lines of a split, given its name, before they are written.
    """
    for kind in ("image", "audio", "vectors"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        lines = [_example(folder, f"{split}-{number}", LABELS[number % 3], rng) for number in range(count)]
        for line in lines if vectors else ():
            line["video"] = line["image"].replace("image", "vectors").replace("png", "npy")
        if change is not None:
            change(split, lines)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def _example(folder: Path, name: str, colour: str, rng: np.random.Generator) -> dict[str, Any]:
    pixels = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 20, (16, 16, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / "image" / f"{name}.png")
    time = np.arange(rng.integers(800, 1600)) / 8000
    tone = 0.5 * np.sin(2 * np.pi * TONES[colour] * time) + rng.normal(0, 0.01, time.shape)
    soundfile.write(folder / "audio" / f"{name}.wav", tone, 8000)
    steps = np.eye(4)[LABELS.index(colour)] + rng.normal(0, 0.1, (rng.integers(1, 4), 4))
    np.save(folder / "vectors" / f"{name}.npy", steps.astype(np.float32))
    return {
        "image": f"image/{name}.png",
        "audio": f"audio/{name}.wav",
        "text": f"a {colour} thing",
        "label": colour,
        "value": 10.0 * LABELS.index(colour) - 5,
        "target_text": f"this is {colour}",
        "captions": {"en": [f"a {colour} picture", f"something {colour}"], "zh": ["一张图"]},
    }


IMAGE = (
    '[modalities.image]\nfeatures = { type = "pixels", size = 8 }\n'
    'encoder = { type = "image-small", channels = [4], width = 8 }\n'
)
TEXT = '[modalities.text]\nencoder = { type = "text-rnn", embedding = 8, hidden = 8 }\n'
AUDIO = (
    '[modalities.audio]\nfeatures = { type = "log-mel", sample_rate = 8000, n_mels = 8, hop = 0.02 }\n'
    'encoder = { type = "audio-rnn", channels = [4], strides = [1], hidden = 8 }\n'
)
VECTORS = '[modalities.video]\nfeatures = "vectors"\nencoder = { type = "vectors-rnn", hidden = 8 }\n'


def make_experiment(path: Path, task: str, *tables: str, top: str = "", training: str = "") -> Path:
    """An experiment of small parts: ``tables`` are its modalities, fusion and head."""
    text = f'name = "small"\ntask = "{task}"\n{top}\n' + "\n".join(tables)
    settings = "epochs = 3\nbatch_size = 8\nrate = 0.01\nminimum_count = 1\n" if "epochs" not in training else ""
    path.write_text(f"{text}\n[training]\n{settings}{training}\n", encoding="utf-8")
    return path


def make_conversations(
    folder: Path,
    *,
    train: int = 24,
    val: int = 8,
    audio_rate: int = 1,
    alone: bool = False,
    change: Change | None = None,
) -> Path:
    """Conversations of 3 to 6 utterances, questions and statements, with ready vectors of size 4.

    ``label`` says of each utterance whether it answers a question, ``value`` is 1 where it does and -1 where not: what
    decides is the utterance before it, about which its own vectors say nothing.

    Args:
        audio_rate: vectors an utterance in ``audio``; ``text`` has one.
        alone: each utterance is a line of its own, with one target.
        change: may alter the lines of a split, given its name, before they are written.
    """
    (folder / "vectors").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        lines: list[dict[str, Any]] = []
        for number in range(count):
            asks = rng.integers(0, 2, 3 + number % 4)
            answers = [False, *(asks[:-1] == 1).tolist()]
            kinds = np.eye(4)[asks]
            features = {
                "text": kinds + rng.normal(0, 0.1, kinds.shape),
                "audio": kinds.repeat(audio_rate, 0) + rng.normal(0, 0.3, (len(asks) * audio_rate, 4)),
            }
            for step in range(len(asks)) if alone else (slice(None),):
                name = f"{split}-{number}-{step}" if alone else f"{split}-{number}"
                line: dict[str, Any] = {part: f"vectors/{name}-{part}.npy" for part in features}
                for part, array in features.items():
                    np.save(folder / line[part], array[step].astype(np.float32))
                targets: dict[str, list[Any]] = {
                    "label": ["answer" if answer else "remark" for answer in answers],
                    "value": [1.0 if answer else -1.0 for answer in answers],
                }
                lines.append(line | {name: found[step] for name, found in targets.items()})
        if change is not None:
            change(split, lines)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


UTTERANCES = "".join(
    f'[modalities.{part}]\nfeatures = "vectors"\nencoder = {{ type = "vectors-mean", width = 8, normalize = false }}\n'
    for part in ("text", "audio")
)
"""The modalities of conversations, by encoders that look at each utterance by itself."""
PER_STEP = '[head]\nper = "step"\n'


def corpus_of(
    experiment: Experiment, target: Target, folder: Path, cache: Path, known: TextTokenizer | None = None
) -> Corpus:
    """A data folder read, checked and featurized, as a run does it."""
    faults = Faults()
    return load_corpus(experiment, target, read_splits(experiment, target, folder, faults), cache, faults, known)
