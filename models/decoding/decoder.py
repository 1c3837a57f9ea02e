"""What a search needs of a network that writes token by token, and how searches share its steps.

A search does not call its decoder: it yields a ``StepCall`` and is sent the answer. So whoever runs it decides when the
step is taken, and together with which others: between any two steps requests of other widths, lengths and languages
join and leave the batch (cellular batching, Gao et al. 2018).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

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


class SharedDecoder(Decoder[Memory], Protocol[Memory]):
    """A decoder whose steps several searches can share."""

    def entries(self, memory: Memory) -> int:
        """N, over which a memory's attention weights go."""
        ...

    def join(self, memories: Sequence[Memory]) -> Memory:
        """Memories below one another, those of fewer entries padded and masked."""
        ...


@dataclass(frozen=True, slots=True)
class StepCall:
    """A step that a search needs; ``certain`` tells the first row's tokens that will not change any more."""

    tokens: Tensor
    state: State
    memory: Any
    certain: Callable[[], list[int]]


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


class StepBatch:
    """Takes the steps of several searches over one decoder in one go."""

    def __init__(self, decoder: SharedDecoder[Any]) -> None:
        self.decoder = decoder
        self._joined: tuple[list[Any], Any] | None = None

    def step(self, calls: Sequence[StepCall]) -> list[StepAnswer]:
        """The answer to each call, as if it had been made alone."""
        if len(calls) == 1:
            call = calls[0]
            return [self.decoder.step(call.tokens, call.state, call.memory)]
        width = max(call.tokens.shape[1] for call in calls)
        tokens = torch.cat([_widen(call.tokens, width) for call in calls])
        state = {name: torch.cat([_widen(call.state[name], width) for call in calls]) for name in calls[0].state}
        scores, after, weights = self.decoder.step(tokens, state, self._memory([call.memory for call in calls]))
        answers, first = [], 0
        for call in calls:
            rows, columns = call.tokens.shape
            here = slice(first, first + rows)
            mine = {name: value[here, :columns] for name, value in after.items()}
            entries = self.decoder.entries(call.memory)
            answers.append((scores[here, :columns], mine, weights[here, :columns, :entries]))
            first += rows
        return answers

    def _memory(self, memories: list[Any]) -> Any:
        # The same searches step together many times in a row: their memories are joined when one comes or goes.
        if self._joined is None or not _same(self._joined[0], memories):
            self._joined = (memories, self.decoder.join(memories))
        return self._joined[1]


def _same(some: list[Any], others: list[Any]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def _widen(value: Tensor, width: int) -> Tensor:
    """``value`` [B, K, ...] with zeros up to [B, width, ...]."""
    missing = width - value.shape[1]
    return value if not missing else nn.functional.pad(value, (*(0, 0) * (value.ndim - 2), 0, missing))
