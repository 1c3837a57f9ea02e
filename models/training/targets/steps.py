"""Targets of steps: a list an example, one entry a fused step, such as each utterance of a conversation."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, islice
from typing import Any, ClassVar

import torch
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.fusion.alignment import resample
from models.network import FusionRNN
from models.sequence import SequenceOutput, length_mask
from models.training.experiment import Experiment
from models.training.metrics.figures import Figures
from models.training.report import Faults
from models.training.targets.classification import ClassTarget
from models.training.targets.regression import NumberTarget
from models.training.targets.target import Target


class StepTarget(Target):
    """What ``kind`` does with examples, done with their real steps; figures' intervals draw whole examples."""

    kind: ClassVar[type[ClassTarget] | type[NumberTarget]]

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        self.each = self.kind(experiment)

    def fit(self, train: Sequence[Any], val: Sequence[Any], faults: Faults) -> None:
        self.each.fit(self.items(train), self.items(val), faults)
        self.labels = self.each.labels

    def describe(self, values: Sequence[Any]) -> dict[str, Any]:
        items = self.items(values)
        return {"steps": len(items), **self.each.describe(items)}

    def items(self, values: Sequence[Any]) -> list[Any]:
        return list(chain.from_iterable(values))

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:
        return self.each.head(tokenizer)

    def prepare(
        self, network: FusionRNN, config: CheckpointConfig, tokenizer: TextTokenizer | None, train: Sequence[Any]
    ) -> None:
        self.each.prepare(network, config, tokenizer, self.items(train))
        self.each.output = lambda encoded: network.head(encoded)[_real(_steps(encoded))]
        self.lengths = torch.tensor([len(value) for value in train])
        self.starts = self.lengths.cumsum(0) - self.lengths

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        """The loss of a batch's real steps.

        Raises:
            ValueError: an encoder gave another number of steps than its features have.
        """
        wanted, found = self.lengths[rows], _steps(encoded).lengths.cpu()
        if not torch.equal(wanted, found):
            row = int((wanted != found).nonzero()[0])
            raise ValueError(
                f"an example has {int(wanted[row])} targets and {int(found[row])} fused steps: "
                "its encoders must keep the number of steps"
            )
        return self.each.loss(encoded, self._places(rows))

    def goals(self, rows: Tensor) -> Tensor:
        return self.each.goals(self._places(rows))

    def rows(self, encoded: Encoded) -> Encoded:
        """Every real step as a row of its own, modalities of other rates aligned as fusions align them."""
        steps = _steps(encoded)
        real = _real(steps)
        outputs = {}
        for name, output in encoded.outputs.items():
            aligned = resample(output.sequence, output.lengths, steps.lengths, real.shape[1], "nearest")[real]
            here = (output.lengths > 0).to(torch.int64).repeat_interleave(steps.lengths)
            outputs[name] = SequenceOutput(aligned.unsqueeze(1), here, aligned)
        return Encoded(outputs, encoded.fusion)

    def outputs(self) -> int:
        return self.each.outputs()

    def objective(self, scores: Tensor, goals: Tensor) -> Tensor:
        return self.each.objective(scores, goals)

    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:
        """A list for each row, of the answer to each of its real steps."""
        flat = iter(self.each.answers(encoded, self.items(values)))
        return [list(islice(flat, length)) for length in _steps(encoded).lengths.tolist()]

    def figures(self, answers: Sequence[Any], values: Sequence[Any]) -> Figures:
        figures = self.each.figures(self.items(answers), self.items(values))
        return figures.grouped([len(value) for value in values])

    def value_of(self, values: Mapping[str, float]) -> float:
        return self.each.value_of(values)

    def _places(self, rows: Tensor) -> Tensor:
        """Places int64 [S] of the examples' steps among all training steps, one example after the other."""
        lengths, starts = self.lengths[rows], self.starts[rows]
        # Step k of an example stands at its start + k; arange counts on across the examples before it.
        shift = starts - (lengths.cumsum(0) - lengths)
        return torch.arange(int(lengths.sum())) + shift.repeat_interleave(lengths)


class ClassStepsTarget(StepTarget):
    """``label``: a list of one label a step."""

    kind = ClassTarget
    field = ClassTarget.field
    score = ClassTarget.score

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> tuple[str, ...]:
        return _each(ClassTarget.value, fields, name, modalities)


class NumberStepsTarget(StepTarget):
    """``value``: a list of one number a step, or of lists of equally many."""

    kind = NumberTarget
    field = NumberTarget.field
    score = NumberTarget.score

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> tuple[tuple[float, ...], ...]:
        return _each(NumberTarget.value, fields, name, modalities)


def _each(
    value: Callable[[Mapping[str, Any], str, Collection[str]], Any],
    fields: Mapping[str, Any],
    name: str,
    modalities: Collection[str],
) -> tuple[Any, ...]:
    """The targets of all entries of a list, each read by ``value`` as an example's own.

    Raises:
        ValueError: it is no list, or an entry is no target; which one is said.
    """
    entries = fields.get(name)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"'{name}' must be a list with one entry a step, not {entries!r}")
    found = []
    for step, entry in enumerate(entries, 1):
        try:
            found.append(value({name: entry}, name, modalities))
        except ValueError as error:
            raise ValueError(f"step {step} of {len(entries)}: {error}") from error
    return tuple(found)


def _steps(encoded: Encoded) -> SequenceOutput:
    # A head that answers by step is refused where the fusion gives no sequence.
    assert encoded.fusion.sequence is not None
    return encoded.fusion.sequence


def _real(steps: SequenceOutput) -> Tensor:
    """Bool [B, T]: which steps are not padding."""
    return length_mask(steps.lengths, steps.sequence.shape[1])
