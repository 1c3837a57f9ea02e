"""What a fine-tuned transformer makes of texts, for a small network to learn from.

Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks". It also judges
pieces of the texts, of which there is no end: in some the words that decide stand alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.sequence import pad
from models.training.recipes.classifier import ClassifierStage, Held, Inputs
from models.training.recipes.minilm import MiniLM, WordPieces
from models.training.recipes.waveforms import chance, choice
from models.training.stage import bucketed
from models.training.trainer import Schedule, Trainer

PIECES = 3
"""Pieces of each text that are judged."""
_PART = re.compile(r"[^\s,.!?;，。！？；、]+[\s,.!?;，。！？；、]*")


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts and their classes, int64 [N]."""

    texts: list[str]
    classes: Tensor


@dataclass(frozen=True, slots=True)
class Lessons:
    """A teacher's probabilities of texts, and ``PIECES`` pieces of each with theirs."""

    opinions: Tensor
    pieces: list[list[tuple[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Reader:
    """How a pre-trained transformer is fine-tuned: on so many word pieces of a text, but for its lowest layers."""

    folder: str
    longest: int
    epochs: int
    frozen: int


class Teacher:
    """A transformer with the pre-trained weights in ``folder``, fine-tuned on ``taught`` in ``out``.

    ``asked`` chooses the epoch. Word vectors stay as they are: few of them occur in so few texts.

    Raises:
        DataError: the weights are missing.
    """

    def __init__(self, reader: Reader, data: Path, taught: Texts, asked: Texts, out: Path, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = MiniLM.pretrained(data / reader.folder, int(taught.classes.max()) + 1)
        self.pieces = WordPieces(data / reader.folder, reader.longest)
        self.taught = taught
        held = Held([({"text": pad(self.pieces(asked.texts[i : i + 64]))}, asked.classes[i : i + 64])
                     for i in range(0, len(asked.texts), 64)])  # fmt: skip
        Trainer(self.network, [self._stage(reader, held)], out, seed=seed).run()
        self.network.eval()

    def answers(self, texts: Sequence[str]) -> Tensor:
        """Probabilities [N, C]."""
        return self.network.answers(self.pieces(texts))

    def lessons(self, path: Path) -> Lessons:
        """What it makes of the texts that it was taught and of pieces of them, kept in ``path``."""
        texts = self.taught.texts
        with torch.random.fork_rng():
            torch.manual_seed(0)
            parts = [piece(text) for text in texts for _ in range(PIECES)]
        if not path.exists():
            torch.save(self.answers([*texts, *parts]), path)
        opinions, judged = torch.load(path, weights_only=True).split([len(texts), len(parts)])
        pairs = list(zip(parts, judged, strict=True))
        return Lessons(opinions, [pairs[start : start + PIECES] for start in range(0, len(pairs), PIECES)])

    def _stage(self, reader: Reader, held: Held) -> "TextStage":
        ids = self.pieces(self.taught.texts)
        goals = F.one_hot(self.taught.classes).float()

        def draw(rows: Tensor) -> tuple[Inputs, Tensor]:
            return {"text": pad([ids[int(row)] for row in rows])}, goals[rows]

        schedule = Schedule(epochs=reader.epochs, metric="score", averaging=0.98, bf16=True, weight_decay=1e-2)
        stage = TextStage(self.network, draw, len(ids), held, schedule, rate=1e-4, batch=32)
        stage.lengths = [len(row) for row in ids]
        stage.frozen = ("words.", "positions.", *(f"layers.layers.{layer}." for layer in range(reader.frozen)))
        return stage


class TextStage(ClassifierStage):
    """Batches of texts of like length; what is ``frozen``, by the beginnings of its name, stays as it is."""

    lengths: Sequence[int]
    frozen: tuple[str, ...] = ()

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        return bucketed(self.lengths, self.batch, generator)

    def parameter_groups(self) -> list[dict[str, object]]:
        chosen = [value for name, value in self.network.named_parameters() if not name.startswith(self.frozen)]
        return [{"params": chosen, "lr": self.rate}]


def piece(text: str) -> str:
    """Some neighbouring words of a text, or clauses of one without spaces: at least two, at times without one."""
    parts: list[str] = _PART.findall(text) or [text]
    size = min(len(parts), 2 + choice(max(len(parts) - 1, 1)))
    start = choice(len(parts) - size + 1)
    chosen = parts[start : start + size]
    if len(chosen) > 3 and chance(0.3):
        del chosen[choice(len(chosen))]
    return "".join(chosen).strip()
