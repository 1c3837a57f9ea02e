"""Classes: a label an example, cross-entropy, accuracy and macro-F1."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.training.metrics.classes import class_figures
from models.training.metrics.figures import Figures
from models.training.objectives import class_cross_entropy
from models.training.report import Faults
from models.training.targets.target import Target

_RARE = 3


class ClassTarget(Target):
    """``label``: a string without the spaces around it, or a whole number or truth value that is written as one.

    Strings are composed (Unicode's NFC): "café" is one class, whichever way a table or a file system wrote its accent.
    """

    field = "label"
    score = "macro_f1"
    output: Callable[[Encoded], Tensor]
    """Logits [N, C] of all that is learned."""

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> str:  # noqa: ARG004
        value = fields.get(name)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int):
            return str(value)
        if not isinstance(value, str) or not value.strip():
            remedy = "; one label a step needs `per = 'step'` in [head]" if isinstance(value, list) else ""
            raise ValueError(
                f"'{name}' must be a label: a string, a whole number or a truth value, not {value!r}{remedy}"
            )
        return unicodedata.normalize("NFC", value.strip())

    def fit(self, train: Sequence[str], val: Sequence[str], faults: Faults) -> None:
        counts = Counter(train)
        self.labels = sorted(counts)
        if len(counts) < 2:
            faults.add("too few classes", "train.jsonl", f"the labels are {', '.join(self.labels) or 'none'}")
        for label, count in sorted(counts.items()):
            if count < _RARE:
                faults.add("rare classes", "train.jsonl", f"'{label}' has {count}")
        for alike in _alike(counts):
            faults.add("classes that differ in case only", "train.jsonl", ", ".join(f"'{label}'" for label in alike))
        for label in sorted(counts.keys() - set(val)):
            faults.add("classes that are not measured", "val.jsonl", f"'{label}' has 0")
        for label, count in sorted(Counter(val).items()):
            if label not in counts:
                faults.add("labels unseen in training", "val.jsonl", f"'{label}' has {count}")

    def describe(self, values: Sequence[str]) -> dict[str, Any]:
        return {"classes": dict(sorted(Counter(values).items()))}

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:  # noqa: ARG002
        assert self.labels is not None
        return {"classes": len(self.labels), "outputs": len(self.labels)}

    def prepare(
        self,
        network: FusionRNN,
        config: CheckpointConfig,  # noqa: ARG002
        tokenizer: TextTokenizer | None,  # noqa: ARG002
        train: Sequence[str],
    ) -> None:
        self.output = network.head
        self.classes = self.indices(train).to(network.device)
        counts = torch.bincount(self.classes, minlength=len(self.labels or ())).float()
        balanced = self.experiment.training.class_weights == "balanced"
        self.weights = len(train) / (counts.clamp(min=1) * len(counts)) if balanced else torch.ones_like(counts)

    def indices(self, values: Sequence[str]) -> Tensor:
        """Places int64 [N] of labels."""
        places = {label: index for index, label in enumerate(self.labels or ())}
        return torch.tensor([places[value] for value in values], dtype=torch.int64)

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        return self.objective(self.output(encoded), self.classes[rows])

    def goals(self, rows: Tensor) -> Tensor:
        return self.classes[rows]

    def outputs(self) -> int:
        return len(self.labels or ())

    def objective(self, scores: Tensor, goals: Tensor) -> Tensor:
        smoothing = self.experiment.training.label_smoothing
        return class_cross_entropy(scores, goals, smoothing=smoothing, weights=self.weights)

    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        return list(self.output(encoded).softmax(1).double().cpu().numpy())

    def figures(self, answers: Sequence[Any], values: Sequence[str]) -> Figures:
        return class_figures(np.stack(answers), self.indices(values).numpy())

    def value_of(self, values: Mapping[str, float]) -> float:
        # Small validation sets tie often: of equally right epochs the one is best that is surer of it.
        return values[self.score] - 1e-3 * values["cross_entropy"]


def _alike(labels: Iterable[str]) -> list[list[str]]:
    """Labels that are equal up to case, together."""
    found: dict[str, list[str]] = {}
    for label in sorted(labels):
        found.setdefault(label.casefold(), []).append(label)
    return [group for group in found.values() if len(group) > 1]
