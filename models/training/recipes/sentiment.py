"""``sentiment``: whether an English or Chinese text is positive or negative, by one bidirectional LSTM for both.

There are only some 7000 texts of each language, so both halves learn from a teacher as well: a pre-trained transformer,
fine-tuned on the same texts, gives its opinion of them and of pieces of them, and what it makes of single words and
characters is where their vectors start, so that words which no training sentence has are not unknown. Traditional
characters read as simplified ones.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.config import CheckpointConfig
from models.encoders.text import TextRNN
from models.features.text import TextTokenizer, frequent
from models.network import FusionRNN
from models.sequence import Padded, pad
from models.training.manifest import DataError, read_manifest
from models.training.recipes.cards.sentiment import card
from models.training.recipes.classifier import (
    Held,
    Inputs,
    Run,
    calibrate,
    figures,
    minutes,
    over_seeds,
    publish,
    train_seeds,
    without_recurrence,
)
from models.training.recipes.minilm import WordPieces, english, word_vectors
from models.training.recipes.opinions import Lessons, Reader, Teacher, Texts, TextStage
from models.training.recipes.traditional import SIMPLIFIED
from models.training.recipes.waveforms import chance, choice
from models.training.trainer import Schedule

LABELS = ("negative", "positive")
SETS = {
    "sst2": Reader("minilm", longest=64, epochs=1, frozen=0),
    "chn_hotel": Reader("e5", longest=96, epochs=2, frozen=6),
}
"""The sets of texts, and the teacher of each."""
SEEDS = 3
EPOCHS = 8
EMBEDDING = 64
LONGEST = 256
"""Words of a text that are read in training; the served network reads more."""
COMMON = 12_000
"""Frequent English words that are in the vocabulary even if no training sentence has them."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from one text: its words, what to answer, and judged pieces of it."""

    ids: Tensor
    goal: Tensor
    pieces: tuple[tuple[Tensor, Tensor], ...] = ()


def describe(vocabulary: int, heat: float | None = None) -> CheckpointConfig:
    """The checkpoint's config."""
    encoder = {
        "type": "text-rnn", "vocabulary": vocabulary, "embedding": EMBEDDING, "word_dropout": 0.1,
        "cell": "lstm", "hidden": 96, "bidirectional": True, "pooling": "attention", "dropout": 0.3,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": "sentiment",
            "version": "1.0.0",
            "task": "classification",
            "description": "Whether a text in English or Chinese speaks well or ill of its subject.",
            "modalities": {"text": {"required": True, "features": {"type": "tokens", "max_tokens": 512}}},
            "network": {
                "encoders": {"text": encoder},
                "fusion": {"type": "concat", "width": 64},
                "head": {"type": "classification", "classes": 2, "dropout": 0.3},
            },
            "labels": list(LABELS),
            "defaults": {} if heat is None else {"temperature": heat},
        }
    )


def vocabulary(english: Sequence[str], chinese: Sequence[str], common: Sequence[str]) -> TextTokenizer:
    """Words of the training texts, frequent English words, and the traditional forms of Chinese characters."""
    splitter = TextTokenizer.build([])
    words = [Counter(word for text in texts for word in splitter.split(text)) for texts in (english, chinese)]
    known = dict.fromkeys([*frequent(words[0], 2), *frequent(words[1], 2), *common])
    traditional = [old for old, new in SIMPLIFIED.items() if new in known and old not in known]
    return TextTokenizer.build([*known, *traditional])


class Draw:
    """Batches of lessons, padded with a token of their own that counts as a word.

    So all rows are of one length, for which torch's kernels take a seventh of the time that packed ones take.
    """

    def __init__(self, lessons: Sequence[Lesson], padding: int) -> None:
        self.lessons, self.padding = lessons, padding

    def __call__(self, rows: Tensor) -> tuple[Inputs, Tensor]:
        """Token ids and goals; half of the texts are replaced by one of their pieces."""
        drawn = [self._drawn(self.lessons[int(row)]) for row in rows]
        ids = pad_sequence([ids for ids, _ in drawn], batch_first=True, padding_value=self.padding)
        lengths = torch.full((len(ids),), ids.shape[1], dtype=torch.int64)
        return {"text": Padded(ids, lengths)}, torch.stack([goal for _, goal in drawn])

    def _drawn(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        if lesson.pieces and chance(0.5):
            return lesson.pieces[choice(len(lesson.pieces))]
        return lesson.ids, lesson.goal


def train(data: Path, out: Path, seed: int) -> None:
    """Train the teachers, three seeds and the baseline without recurrence in ``out``, and write ``out/checkpoint``.

    ``data`` holds the folders ``sst2`` and ``chn_hotel``, and ``minilm`` and ``e5`` with what the teachers start from.

    Raises:
        DataError: one of them is missing.
    """
    taught = {name: _read(data / name, "train") for name in SETS}
    asked = {name: _read(data / name, "val") for name in SETS}
    teachers = {
        name: Teacher(reader, data, taught[name], asked[name], out / f"teacher-{name}", seed)
        for name, reader in SETS.items()
    }
    common = WordPieces(data / "minilm").whole_words(COMMON)
    tokenizer = vocabulary(taught["sst2"].texts, taught["chn_hotel"].texts, common)
    lessons = [
        lesson
        for name, teacher in teachers.items()
        for lesson in _lessons(taught[name], teacher.lessons(out / f"lessons-{name}.pt"), tokenizer)
    ]
    vectors = sum(
        (
            word_vectors(tokenizer, teachers[name].network, teachers[name].pieces, EMBEDDING, known)
            for name, known in {"sst2": english, "chn_hotel": chinese}.items()
        ),
        start=torch.zeros(tokenizer.size, EMBEDDING),
    )
    held = Held([batch for name in SETS for batch in _batches(asked[name], tokenizer)])
    config = describe(tokenizer.size)
    draw = Draw(lessons, tokenizer.pad)

    def prepare(network: FusionRNN) -> None:
        known = vectors.norm(dim=1) > 0
        embeddings(network)[known] = vectors[known]

    def stages(network: FusionRNN) -> list[TextStage]:
        schedule = Schedule(
            epochs=EPOCHS, metric="score", averaging=0.99, patience=EPOCHS, bf16=True, weight_decay=1e-3
        )
        stage = TextStage(network, draw, len(lessons), held, schedule, rate=2e-3, batch=64)
        stage.lengths = [len(lesson.ids) for lesson in lessons]
        return [stage]

    def plain(network: FusionRNN) -> None:
        prepare(network)
        without_recurrence(network, "text")

    most = int(taught["sst2"].classes.float().mean() > 0.5)
    sizes = [len(asked[name].classes) for name in SETS]
    runs: list[Run] = []
    baselines = {f"always '{LABELS[most]}'": _accuracies(np.eye(2)[np.full(sum(sizes), most)], held.truth, sizes)}
    judged = torch.cat([teacher.answers(asked[name].texts) for name, teacher in teachers.items()])
    baselines["the teachers"] = _accuracies(judged.numpy(), held.truth, sizes)
    for run in train_seeds(config.network, stages, held, out, range(seed, seed + SEEDS), prepare=prepare):
        runs.append(run)
        _publish(data, out, runs, held, sizes, tokenizer, baselines)
    for run in train_seeds(config.network, stages, held, out / "no-recurrence", [seed], prepare=plain):
        baselines["no recurrence"] = _accuracies(run.probabilities, held.truth, sizes)
        _publish(data, out, runs, held, sizes, tokenizer, baselines)


def chinese(word: str) -> bool:
    """Whether a word is a Chinese character."""
    return "\u4e00" <= word <= "\u9fff"


def embeddings(network: FusionRNN) -> Tensor:
    """The vectors [vocabulary, EMBEDDING] that the network starts from, to read and to write."""
    encoder = network.encoders["text"]
    assert isinstance(encoder, TextRNN)
    return encoder.embedding.weight.data


def read_alike(network: FusionRNN, tokenizer: TextTokenizer) -> None:
    """Give traditional characters, which no training text has, the vectors of their simplified forms."""
    weight = embeddings(network)
    for old, new in SIMPLIFIED.items():
        (traditional,), (simplified,) = tokenizer.encode(old), tokenizer.encode(new)
        if tokenizer.unknown not in (traditional, simplified):
            weight[traditional] = weight[simplified]


def _publish(
    data: Path,
    out: Path,
    runs: list[Run],
    held: Held,
    sizes: list[int],
    tokenizer: TextTokenizer,
    baselines: dict[str, dict[str, float]],
) -> None:
    """Write the best of the networks trained so far, with what is known of it."""
    best = max(runs, key=lambda run: sum(_accuracies(run.probabilities, held.truth, sizes).values()))
    read_alike(best.network, tokenizer)
    truth = held.truth
    calibrated = calibrate(best.probabilities, truth)
    split = np.split(np.arange(len(truth)), np.cumsum(sizes)[:-1])
    metrics = {
        "dataset": "+".join(SETS),
        "split": "val",
        "n": len(truth),
        "command": f"fusionrnn train sentiment --data {data.resolve().name}",
        "seed": best.seed,
        "figures": {
            name: figures(calibrated.probabilities[rows], truth[rows]) for name, rows in zip(SETS, split, strict=True)
        },
        "seeds": {
            "accuracy": {
                name: over_seeds([_accuracies(run.probabilities, truth, sizes)[name] for run in runs]) for name in SETS
            },
            "of": [run.seed for run in runs],
            "minutes": [minutes(out / f"seed-{run.seed}") for run in runs],
            "minutes_of_teachers": [minutes(out / f"teacher-{name}") for name in SETS],
        },
        "baselines": baselines,
        "calibration": calibrated.note,
    }
    config = describe(tokenizer.size, calibrated.heat)
    publish(out, config, best.network, metrics, calibrated.probabilities, truth, tokenizer, card=card)


def _accuracies(probabilities: NDArray[np.float64], truth: NDArray[np.int64], sizes: list[int]) -> dict[str, float]:
    right = np.split(probabilities.argmax(1) == truth, np.cumsum(sizes)[:-1])
    return {name: round(float(part.mean()), 4) for name, part in zip(SETS, right, strict=True)}


def _read(folder: Path, split: str) -> Texts:
    manifest = read_manifest(folder, split)
    for line, example in zip(manifest.lines, manifest.examples, strict=True):
        if not isinstance(example.get("text"), str) or example.get("label") not in LABELS:
            raise DataError(f"{folder}/{split}.jsonl, line {line}, needs a text and a label, {' or '.join(LABELS)}")
    classes = torch.tensor([LABELS.index(example["label"]) for example in manifest.examples])
    return Texts([example["text"] for example in manifest.examples], classes)


def _lessons(taught: Texts, judged: Lessons, tokenizer: TextTokenizer) -> list[Lesson]:
    """Of each text the mean of its smoothed label and the teacher's opinion, and of its pieces that opinion."""
    hard = 0.9 * F.one_hot(taught.classes, len(LABELS)).float() + 0.05
    goals = 0.5 * (hard + judged.opinions)

    def ids(text: str) -> Tensor:
        return torch.tensor(tokenizer.encode(text)[:LONGEST] or [tokenizer.unknown])

    return [
        Lesson(ids(text), goal, tuple((ids(part), opinion) for part, opinion in pieces))
        for text, goal, pieces in zip(taught.texts, goals, judged.pieces, strict=True)
    ]


def _batches(asked: Texts, tokenizer: TextTokenizer, batch: int = 64) -> list[tuple[Inputs, Tensor]]:
    ids = [torch.tensor(tokenizer.encode(text)[:512] or [tokenizer.unknown]) for text in asked.texts]
    places = range(0, len(ids), batch)
    return [({"text": pad(ids[start : start + batch])}, asked.classes[start : start + batch]) for start in places]
