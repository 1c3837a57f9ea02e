"""What a search needs of a network that writes token by token, and how searches share its steps.

A search does not call its decoder: it yields a ``StepCall`` and is sent the answer. So whoever runs it decides when the
step is taken, and together with which others: between any two steps requests of other widths, lengths and languages
join and leave the batch (cellular batching, Gao et al. 2018).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from torch import Tensor

from models.state import State

Memory = TypeVar("Memory")
Memory_contra = TypeVar("Memory_contra", contravariant=True)
Result = TypeVar("Result")
Part = TypeVar("Part")

StepAnswer: TypeAlias = tuple[Tensor, State, Tensor]
"""Log-probabilities [B, K, V], the next state, attention weights [B, K, N]."""


class Decoder(Protocol[Memory_contra]):
    """One step for K hypotheses over each of B memories; rows are independent of one another."""

    def step(self, tokens: Tensor, state: State, memory: Memory_contra) -> StepAnswer:
        """Take the last tokens int64 [B, K] and a state of tensors [B, K, ...]."""
        ...


@dataclass(frozen=True, slots=True)
class StepCall:
    """A step that a search needs; ``certain`` tells the first row's tokens that will not change any more."""

    tokens: Tensor
    state: State
    memory: Any
    certain: Callable[[], list[int]] = list


class SharedDecoder(Decoder[Memory_contra], Protocol[Memory_contra]):
    """A decoder whose steps several searches can share."""

    def step_together(self, calls: Sequence[StepCall]) -> list[StepAnswer]:
        """The answer to each call, as if it had been made alone: calls may differ in width and in their memories."""
        ...


Search: TypeAlias = Generator[StepCall, StepAnswer, Result]
"""A search by itself. One whose words are told yields events too, and is sent None for them."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished sequence: ``tokens`` without start and end, its log-probability (natural, end included), its score.

    ``attention`` holds one row of N weights for each token.
    """

    tokens: list[int]
    log_probability: float
    score: float
    attention: Tensor


def run(decoder: Decoder[Any], search: Search[Result]) -> Result:
    """Run a search by itself to its end and return its result."""
    answer: StepAnswer | None = None
    while True:
        try:
            call = search.send(answer)  # type: ignore[arg-type]  # the first one must be None
        except StopIteration as stop:
            result: Result = stop.value
            return result
        answer = decoder.step(call.tokens, call.state, call.memory)


def drain(steps: Generator[Any, None, Result]) -> Result:
    """Run a generator to its end and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result
