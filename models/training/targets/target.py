"""The contract of a target: what a task learns from the examples' targets, from the manifest's field to the loss."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.network import FusionRNN
from models.training.examples import Example
from models.training.experiment import Experiment
from models.training.metrics.figures import Figures
from models.training.report import Faults


class Target(ABC):
    """One task's side of an experiment. Methods are called in the order in which they stand here."""

    field: ClassVar[str]
    """Field of the manifest that is read where the experiment names none."""

    score: ClassVar[str]
    """Name of the validation figure that comes first in choosing the best epoch: see ``value_of``."""

    least_batch: ClassVar[int] = 1
    """Fewest examples that the loss can be taken of."""

    labels: list[str] | None = None

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.name = experiment.target or self.field

    @staticmethod
    @abstractmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> Any:
        """The target of a manifest's line, from the field ``name``.

        Raises:
            ValueError: with what is wrong with it.
        """

    @classmethod
    def found(cls, fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> Any:
        """The same, but a field that is missing is called that, and not a wrong value."""
        try:
            return cls.value(fields, name, modalities)
        except ValueError as error:
            if name and name not in fields:
                raise ValueError(f"there is no '{name}', but {', '.join(fields) or 'nothing'}") from error
            raise

    def read(self, fields: Mapping[str, Any]) -> Any:
        """The same for this experiment's field and modalities."""
        return self.found(fields, self.name, self.experiment.modalities)

    def learned(self, example: Example) -> Any:
        """What of an example is learned: its target, unless the media themselves are."""
        return example.target

    def fit(self, train: Sequence[Any], val: Sequence[Any], faults: Faults) -> None:  # noqa: B027  not every task must
        """Learn from the training targets what the network's sizes depend on, and note what is odd about them."""

    def items(self, values: Sequence[Any]) -> list[Any]:
        """What is counted of the examples' targets, or of the answers to them: one an example, or one a step."""
        return list(values)

    @abstractmethod
    def describe(self, values: Sequence[Any]) -> dict[str, Any]:
        """Figures of targets for the data report."""

    def texts(self, values: Sequence[Any]) -> Iterable[str]:  # noqa: ARG002
        """Texts that the network writes: their words belong in the vocabulary."""
        return ()

    def languages(self) -> tuple[str, ...]:
        """Languages that the vocabulary needs a start token of."""
        return ()

    @abstractmethod
    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:
        """What the data dictates of the head's configuration."""

    def defaults(self) -> dict[str, Any]:
        """What the data dictates of the served task's options, by default."""
        return {}

    @abstractmethod
    def prepare(
        self, network: FusionRNN, config: CheckpointConfig, tokenizer: TextTokenizer | None, train: Sequence[Any]
    ) -> None:
        """Put what the targets say into the network's buffers, and keep what losses need, where the network is."""

    @abstractmethod
    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        """The loss of a batch: ``rows`` int64 [B] are places in the training targets given to ``prepare``."""

    @abstractmethod
    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:
        """What the network answers to each row, for ``figures``; of much, only what the rows' targets ask for."""

    @abstractmethod
    def figures(self, answers: Sequence[Any], values: Sequence[Any]) -> Figures:
        """How good the answers are; ``score`` is taken from them by ``value_of``."""

    def validation_loss(self, encoded: Encoded, values: Sequence[Any]) -> Tensor | None:  # noqa: ARG002
        """Mean loss of a batch of validation examples, where the task's figures may stand still while it falls.

        None for the other tasks, and for a batch that it cannot be taken of.
        """
        return None

    def value_of(self, values: Mapping[str, float]) -> float:
        """What training maximizes, from the figures and, where the task has one, the ``validation_loss``."""
        return values[self.score]

    def least_steps(self, rows: Tensor) -> Tensor | None:  # noqa: ARG002
        """Steps [B] that the targets of a batch need at least; None where any number does."""
        return None

    def goals(self, rows: Tensor) -> Tensor | None:  # noqa: ARG002
        """The training targets of a batch [B, ...] for heads of single modalities; None where a task has none."""
        return None

    def rows(self, encoded: Encoded) -> Encoded:
        """What such heads read: a row for each of the ``goals``."""
        return encoded

    def outputs(self) -> int:
        """How many scores the head of a single modality gives; asked only of tasks that have ``goals``."""
        raise NotImplementedError

    def objective(self, scores: Tensor, goals: Tensor) -> Tensor:
        """The loss of such a head's scores [B, outputs]; asked only of tasks that have ``goals``."""
        raise NotImplementedError
