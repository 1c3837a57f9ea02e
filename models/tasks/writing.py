"""Tasks that write token by token: an answer is a search, whose steps requests can share."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from models.checkpoint import Checkpoint
from models.decoding.decoder import Hypothesis, Search, SharedDecoder, StepAnswer, StepCall
from models.sequence import Padded
from models.tasks.streaming import Event, StreamSearch, tell_search
from models.tasks.task import Query, Result, Task

Seed = Annotated[int | None, Field(ge=0, lt=2**31, description="Makes sampling repeatable")]
"""The option of tasks that sample."""


class WritingTask(Task):
    """A task with a ``decoder``; by itself it takes the steps of its searches, all together."""

    decoder: SharedDecoder[Any]

    def __init__(self, checkpoint: Checkpoint, decoder: SharedDecoder[Any]) -> None:
        super().__init__(checkpoint)
        assert checkpoint.tokenizer is not None
        self.decoder, self.tokenizer = decoder, checkpoint.tokenizer

    @abstractmethod
    def searches(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> Sequence[StreamSearch[Any]]:
        """Each answer as a search, which leaves its steps to whoever runs it; the inputs are encoded together."""

    def predict(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[Result]:
        results: dict[int, Result] = {}
        waiting: dict[int, StepCall] = {}
        searches = self.searches(inputs, queries)
        answers: dict[int, StepAnswer | None] = dict.fromkeys(range(len(searches)))
        while answers:
            for row, answer in answers.items():
                *_, last = self._until_step(searches[row], answer)
                if isinstance(last, StepCall):
                    waiting[row] = last
                else:
                    results[row] = last["result"]
            calls = [*waiting.values()]
            answers = dict(zip(waiting, self.decoder.step_together(calls), strict=True)) if calls else {}
            waiting.clear()
        return [results[row] for row in range(len(searches))]

    def stream(self, inputs: Mapping[str, Padded], query: Query) -> Iterator[Event]:
        (search,) = self.searches(inputs, [query])
        answer: StepAnswer | None = None
        while True:
            for part in self._until_step(search, answer):
                if isinstance(part, StepCall):
                    answer = self.decoder.step(part.tokens, part.state, part.memory)
                elif "result" in part:
                    yield {"result": part["result"].model_dump(exclude_none=True)}
                    return
                else:
                    yield part

    def told(self, search: Search[list[Hypothesis]], query: Query) -> StreamSearch[list[Hypothesis]]:
        """The outcome of a search, whose words are told on the way where the query asks for them."""
        if query.told:
            return (yield from tell_search(search, self.tokenizer))
        return (yield from search)

    @staticmethod
    def _until_step(search: StreamSearch[Any], answer: StepAnswer | None) -> Iterator[StepCall | Event]:
        """What a search yields when it is sent an answer, up to the step it needs next or ``{"result": ...}``."""
        try:
            while not isinstance(part := search.send(answer), StepCall):
                yield part
                answer = None
            yield part
        except StopIteration as stop:
            yield {"result": stop.value}
