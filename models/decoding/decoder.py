"""What a search needs of a network that writes token by token."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from torch import Tensor

from models.state import State

Memory_contra = TypeVar("Memory_contra", contravariant=True)
Result = TypeVar("Result")


class Decoder(Protocol[Memory_contra]):
    """One step for K hypotheses over each of B memories."""

    def step(self, tokens: Tensor, state: State, memory: Memory_contra) -> tuple[Tensor, State, Tensor]:
        """Last tokens [B, K] -> log-probabilities [B, K, V], next state, attention weights [B, K, N]."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished sequence: ``tokens`` without start and end, its log-probability (natural, end included), its score.

    ``attention`` holds one row of N weights for each token.
    """

    tokens: list[int]
    log_probability: float
    score: float
    attention: Tensor


def drain(steps: Generator[Any, None, Result]) -> Result:
    """Run a step-by-step search to its end and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result
