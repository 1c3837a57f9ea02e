"""Tasks that write token by token: an answer is a search, whose steps requests can share."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from models.checkpoint import Checkpoint
from models.decoding.decoder import SharedDecoder, StepAnswer, StepCall
from models.sequence import Padded
from models.tasks.streaming import Event, Told
from models.tasks.task import Result, Task


class WritingTask(Task):
    """A task with a ``decoder``; by itself it takes the steps of its searches one search at a time."""

    decoder: SharedDecoder[Any]

    def __init__(self, checkpoint: Checkpoint, decoder: SharedDecoder[Any]) -> None:
        super().__init__(checkpoint)
        self.decoder = decoder

    @abstractmethod
    def search(self, inputs: Mapping[str, Padded], options: Any, *, explain: bool, told: bool) -> Told[Any]:
        """The answer as a search, which leaves its steps to whoever runs it; ``told``: its words are events, too."""

    def predict(self, inputs: Mapping[str, Padded], options: Any, *, explain: bool) -> Result:
        *_, last = self._parts(self.search(inputs, options, explain=explain, told=False))
        result: Result = last["result"]
        return result

    def stream(self, inputs: Mapping[str, Padded], options: Any) -> Iterator[Event]:
        for part in self._parts(self.search(inputs, options, explain=False, told=True)):
            yield {"result": part["result"].model_dump(exclude_none=True)} if "result" in part else part

    def _parts(self, search: Told[Any]) -> Iterator[Event]:
        answer: StepAnswer | None = None
        while True:
            try:
                part = search.send(answer)
            except StopIteration as stop:
                yield {"result": stop.value}
                return
            answer = None
            if isinstance(part, StepCall):
                answer = self.decoder.step(part.tokens, part.state, part.memory)
            else:
                yield part
