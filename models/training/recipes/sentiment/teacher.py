"""The teacher of ``sentiment``: MPNet, fine-tuned on English training sentences, and its opinions of other texts."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from models.sequence import pad
from models.training.recipes.classifier import Held, Inputs
from models.training.recipes.sentiment.texts import LABELS, Texts, TextStage
from models.training.recipes.teachers import Transformer, WordPieces
from models.training.trainer import Schedule, Trainer

EPOCHS = 3


class TeacherStage(TextStage):
    """Word vectors stay as they are: few of them occur here."""

    def parameter_groups(self) -> list[dict[str, object]]:
        frozen = ("words.", "positions.", "distances.")
        chosen = [value for name, value in self.network.named_parameters() if not name.startswith(frozen)]
        return [{"params": chosen, "lr": self.rate}]


def fine_tuned(folder: Path, pieces: WordPieces, taught: Texts, asked: Texts, out: Path, seed: int) -> Transformer:
    """The pre-trained network in ``folder``, fine-tuned but for its word vectors; an interrupted run goes on."""
    torch.manual_seed(seed)
    teacher = Transformer.pretrained(folder, len(LABELS))
    ids = pieces(taught.texts)

    def draw(rows: Tensor) -> tuple[Inputs, Tensor]:
        return {"text": pad([ids[int(row)] for row in rows])}, F.one_hot(taught.classes[rows], len(LABELS)).float()

    held = Held([({"text": pad(pieces(asked.texts[i : i + 64]))}, asked.classes[i : i + 64])
                 for i in range(0, len(asked.texts), 64)])  # fmt: skip
    schedule = Schedule(epochs=EPOCHS, metric="score", averaging=0.98, patience=EPOCHS, bf16=True, weight_decay=1e-2)
    stage = TeacherStage(teacher, draw, len(ids), held, schedule, rate=2e-5, batch=32)
    stage.lengths = [len(row) for row in ids]
    Trainer(teacher, [stage], out, seed=seed).run()
    return teacher.eval()


def judged(texts: Sequence[str], teacher: Transformer, pieces: WordPieces, path: Path) -> Tensor:
    """The teacher's probabilities [N, 2] of texts, kept in the file ``path`` as long as the texts are the same."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    kept = torch.load(path, weights_only=True) if path.exists() else {}
    if kept.get("texts") != digest:
        kept = {"texts": digest, "answers": teacher.answers(pieces(texts))}
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(kept, path)
    answers: Tensor = kept["answers"]
    return answers
