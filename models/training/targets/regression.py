"""Numbers: one or several an example, Huber's loss, mean absolute error and correlation."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.heads.numbers import NumbersHead, unit_of
from models.network import FusionRNN
from models.training.metrics.figures import Figures
from models.training.metrics.numbers import number_figures
from models.training.objectives import regression_loss
from models.training.report import Faults
from models.training.targets.target import Target

_MOST = 1e30
"""Largest target on either side of 0: float32 ends at 3.4e38, and errors must fit in as well."""

_LEAST = 1e-30
"""Smallest standard deviation of targets."""

_STEPS = 100
"""Least steps of float32 in a standard deviation: rounding an answer then costs less than a hundredth of it."""


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
        if any(isinstance(item, str) for item in items):
            raise ValueError(f"'{name}' must be a number, not the text {value!r}: write numbers without quotes")
        if not items or not all(_is_number(item) for item in items):
            raise ValueError(
                f"'{name}' must be a finite number, or a list of such, up to {_MOST:g} on either side of 0, "
                f"not {value!r}: mend it, or give all targets in another unit"
            )
        return tuple(float(item) for item in items)

    def fit(self, train: Sequence[tuple[float, ...]], val: Sequence[tuple[float, ...]], faults: Faults) -> None:
        self.size = len(train[0]) if train else 1
        for name, values in (("train", train), ("val", val)):
            if odd := sum(len(value) != self.size for value in values):
                faults.add("targets of different sizes", f"{name}.jsonl", f"{odd} have not {self.size} numbers")
        if all(len(value) == self.size for value in train):
            self._check_spread(np.array(train, np.float64).reshape(-1, self.size), faults)

    def _check_spread(self, columns: NDArray[np.float64], faults: Faults) -> None:
        """Targets are learned in float32, which has seven digits: they must suffice to tell the targets apart."""
        for index, column in enumerate(columns.T):
            if not len(column):
                continue
            what = f"'{self.name}'" + (f"[{index}]" if self.size > 1 else "")
            if column.max() == column.min():
                faults.add("targets that are all equal", "train.jsonl", f"{what} is {column[0]:g} in all examples")
                continue
            spread, size = float(column.std()), float(np.abs(column).max())
            if spread < _LEAST or spread < _STEPS * np.spacing(np.float32(size)):
                said = f"{what} has a standard deviation of {spread:.3g} and numbers up to {size:.9g}"
                faults.add("targets too alike for float32", "train.jsonl", said)

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
        values = torch.tensor(train, dtype=torch.float64)
        if isinstance(network.head, NumbersHead):
            network.head.fit(values)
        self.values = values.float().to(network.device)
        self.mean, self.std = (value.float().to(network.device) for value in unit_of(values))

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        return regression_loss(self.output(encoded), self.values[rows], std=self.std)

    def goals(self, rows: Tensor) -> Tensor:
        return (self.values[rows] - self.mean) / self.std

    def outputs(self) -> int:
        return self.values.shape[1]

    def objective(self, scores: Tensor, goals: Tensor) -> Tensor:
        return regression_loss(scores, goals)

    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        return list(self.output(encoded).double().cpu().numpy())

    def figures(self, answers: Sequence[Any], values: Sequence[tuple[float, ...]]) -> Figures:
        """Of several numbers also ``scaled_mae``: in standard deviations, so that no unit counts more than another."""
        guesses, truth = np.stack(answers), np.array(values)
        figures = number_figures(guesses, truth)
        if truth.shape[1] == 1:
            return figures
        errors = np.abs(guesses - truth) / self.std.double().cpu().numpy()
        return Figures(
            (*figures.names, "scaled_mae"),
            figures.count,
            lambda rows: np.append(figures.statistic(rows), errors[rows].mean()),
        )

    def value_of(self, values: Mapping[str, float]) -> float:
        return -values["scaled_mae" if "scaled_mae" in values else self.score]


def _is_number(value: object) -> bool:
    # NaN is not within any bounds; a whole number of hundreds of digits is no float, and can only be compared.
    return isinstance(value, int | float) and not isinstance(value, bool) and -_MOST <= value <= _MOST
