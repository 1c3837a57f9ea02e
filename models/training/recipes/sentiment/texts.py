"""The texts of ``sentiment`` and their classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.training.manifest import DataError, read_manifest
from models.training.recipes.classifier import ClassifierStage
from models.training.stage import bucketed

LABELS = ("negative", "positive")


@dataclass(frozen=True, slots=True)
class Texts:
    """One set's texts and classes."""

    texts: list[str]
    classes: Tensor


def read_texts(folder: Path, split: str) -> Texts:
    """The ``train`` or ``val`` texts of a set.

    Raises:
        DataError: the manifest is missing, or a line lacks a text or one of ``LABELS``.
    """
    manifest = read_manifest(folder, split)
    for line, example in zip(manifest.lines, manifest.examples, strict=True):
        if not isinstance(example.get("text"), str) or example.get("label") not in LABELS:
            raise DataError(f"{folder}/{split}.jsonl, line {line}, needs a text and a label, {' or '.join(LABELS)}")
    classes = torch.tensor([LABELS.index(example["label"]) for example in manifest.examples])
    return Texts([example["text"] for example in manifest.examples], classes)


class TextStage(ClassifierStage):
    """Batches of texts of like length."""

    lengths: Sequence[int]

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        return bucketed(self.lengths, self.batch, generator)
