"""Numbers: one or several an example, Huber's loss, mean absolute error and correlation."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.heads import RegressionHead
from models.network import FusionRNN
from models.training.metrics.figures import Figures
from models.training.metrics.numbers import number_figures
from models.training.objectives import regression_loss
from models.training.report import Faults
from models.training.targets.target import Target


class NumberTarget(Target):
    """``value``: a number, or a list of as many numbers in every example."""

    field = "value"
    score = "mae"
    output: Callable[[Encoded], Tensor]
    """Numbers [N, K] of all that is learned."""

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> tuple[float, ...]:  # noqa: ARG004
        value = fields.get(name)
        items: list[Any] = value if isinstance(value, list) else [value]
        if not items or not all(_is_number(item) for item in items):
            raise ValueError(f"'{name}' must be a finite number, or a list of such, not {value!r}")
        return tuple(float(item) for item in items)

    def fit(self, train: Sequence[tuple[float, ...]], val: Sequence[tuple[float, ...]], faults: Faults) -> None:
        self.size = len(train[0]) if train else 1
        for name, values in (("train", train), ("val", val)):
            if odd := sum(len(value) != self.size for value in values):
                faults.add("targets of different sizes", f"{name}.jsonl", f"{odd} have not {self.size} numbers")

    def describe(self, values: Sequence[tuple[float, ...]]) -> dict[str, Any]:
        columns = np.array(values)
        return {
            f"{self.name}[{index}]" if self.size > 1 else str(self.name): {
                "mean": float(column.mean()), "std": float(column.std()),
                "min": float(column.min()), "max": float(column.max()),
            }
            for index, column in enumerate(columns.T)
        }  # fmt: skip

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:  # noqa: ARG002
        return {"outputs": self.size}

    def prepare(
        self,
        network: FusionRNN,
        config: CheckpointConfig,  # noqa: ARG002
        tokenizer: TextTokenizer | None,  # noqa: ARG002
        train: Sequence[tuple[float, ...]],
    ) -> None:
        self.output = network.head
        self.values = torch.tensor(train)
        if isinstance(network.head, RegressionHead):
            network.head.fit(self.values)
        self.mean, std = self.values.mean(0), self.values.std(0, correction=0)
        self.std = torch.where(std > 0, std, torch.ones_like(std))

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        return regression_loss(self.output(encoded), self.values[rows], std=self.std, kind="huber")

    def goals(self, rows: Tensor) -> Tensor:
        return (self.values[rows] - self.mean) / self.std

    def outputs(self) -> int:
        return self.values.shape[1]

    def objective(self, scores: Tensor, goals: Tensor) -> Tensor:
        return regression_loss(scores, goals, kind="huber")

    def answers(self, encoded: Encoded) -> list[Any]:
        return list(self.output(encoded).double().numpy())

    def figures(self, answers: Sequence[Any], values: Sequence[tuple[float, ...]]) -> Figures:
        return number_figures(np.stack(answers), np.array(values))

    def value_of(self, values: Mapping[str, float]) -> float:
        return -values[self.score]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
