"""Regression: one or several numbers in the data's unit."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from models.checkpoint import Checkpoint
from models.sequence import Padded
from models.tasks.task import Query, Result, Task


class RegressionResult(Result):
    """What the network predicts, in the unit of the data that it was trained on: one of the three fields."""

    value: float | None = Field(None, description="The number, where the network predicts one")
    values: list[float] | None = Field(None, description="The numbers, where it predicts several")
    steps: list[list[float]] | None = Field(None, description="The numbers of each step, where it predicts by step")


class RegressionTask(Task):
    """The head's output as it is: the head knows the targets' mean and standard deviation."""

    result = RegressionResult

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        head = checkpoint.config.network.head
        self.by_step = getattr(head, "per", "bundle") == "step"
        numbers = [1.4] * int(getattr(head, "outputs", 1))
        self.example = self.example_of(self._answer([numbers, numbers] if self.by_step else numbers))

    def predict(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[RegressionResult]:  # noqa: ARG002
        fusion = (encoded := self.network.encode(inputs)).fusion
        found = self.network.head(encoded)
        if self.by_step:
            assert fusion.sequence is not None
            found = [numbers[:length] for numbers, length in zip(found, fusion.sequence.lengths.tolist(), strict=True)]
        return [
            RegressionResult(modalities=shares, **self._answer(numbers.tolist()))
            for numbers, shares in zip(found, self.contributions(encoded), strict=True)
        ]

    def _answer(self, numbers: list[Any]) -> dict[str, Any]:
        if self.by_step:
            return {"steps": numbers}
        return {"value": numbers[0]} if len(numbers) == 1 else {"values": numbers}
