"""The contract of a reading: what makes answers of a recurrent network's steps, while they come."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from models.encoded import Encoded
from models.options import Options
from models.state import State

Event: TypeAlias = dict[str, Any]
"""What a client is told: ``type`` is partial, final or error, times are seconds since the session began."""


@dataclass(frozen=True, slots=True)
class ChunkEvents:
    """What a reading made of a chunk: ``events``, of its first ``steps``, which are all unless ``over``.

    ``over``: with the last of them something ended after which the network knows nothing of what was before.
    """

    events: list[Event]
    steps: int
    over: bool = False


class Listener(ABC):
    """What one session's reading remembers besides the tensors."""

    @abstractmethod
    def state(self) -> list[float]:
        """What ``restore`` needs to go on from here, as plain numbers."""

    @abstractmethod
    def restore(self, state: list[float]) -> None:
        """Go on from a ``state``.

        Raises:
            ValueError: it is not what ``state`` returns.
        """


class Reading(ABC):
    """One checkpoint's way to read; it serves all sessions."""

    options: type[Options]

    @abstractmethod
    def initial_state(self, rows: int) -> State:
        """The tensors of ``rows`` sessions that have heard nothing; names do not matter as long as they differ."""

    @abstractmethod
    def listener(self, options: Any) -> Listener:
        """For a session with these options."""

    @abstractmethod
    def step(
        self, encoded: Encoded, loudness: Tensor, listeners: Sequence[Any], state: State
    ) -> tuple[Sequence[Any], State]:
        """Read a chunk of several sessions at once.

        Args:
            encoded: what the network's ``step`` returned.
            loudness: [R, t], where there is sound.

        Returns:
            For each session what ``tell`` makes events of, and the state.
        """

    @abstractmethod
    def tell(self, listener: Any, evidence: Any, at: int, began: float) -> ChunkEvents:
        """One session's chunk, whose first step is the ``at``-th of an utterance that ``began`` then."""

    @abstractmethod
    def close(self, listener: Any, encoded: Encoded, state: State, at: int, began: float, reason: str) -> list[Event]:
        """The utterance ends after ``at`` steps: what is still to be said of it.

        Args:
            encoded: what is last known of it; its sequences may have no step.
            state: what ``step`` returned last, one row.
            reason: ``flush`` or ``end``.
        """
