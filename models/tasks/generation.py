"""Generation: a text that goes on from the posted one, token by token."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from models.checkpoint import Checkpoint
from models.decoding.decoder import Hypothesis, Search, StepAnswer, StepCall
from models.decoding.sampling import sample_steps
from models.features.text import join
from models.heads.language_model import LanguageModelHead
from models.options import Options, options_model
from models.sequence import Padded
from models.state import State
from models.tasks.streaming import StreamSearch, sampled
from models.tasks.task import Contribution, Query, Result
from models.tasks.writing import Seed, WritingTask


class GenerationResult(Result):
    """What follows the posted text; ``log_probability`` is natural, the end token's included."""

    text: str
    log_probability: float


_MaxLength = Annotated[int, Field(ge=1, le=1000, description="Most tokens to write")]
_Temperature = Annotated[float, Field(ge=0, le=2, description="0 takes the most probable, the higher the freer")]
_TopK = Annotated[int | None, Field(ge=1, description="Draw from this many of the most probable tokens")]


class GenerationTask(WritingTask):
    """Samples from a causal text encoder and its language-model head; the state is carried from token to token."""

    result = GenerationResult

    def __init__(self, checkpoint: Checkpoint) -> None:
        head = checkpoint.network.head
        assert isinstance(head, LanguageModelHead)
        self.text = TextDecoder(checkpoint.network.encoders["text"], head)
        super().__init__(checkpoint, self.text)
        self.options = _options(checkpoint.config.defaults)
        self.example = self.example_of({"text": "in the snow", "log_probability": -5.2})

    def searches(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[StreamSearch[GenerationResult]]:
        return [self._search(inputs["text"].row(row), query) for row, query in enumerate(queries)]

    def _search(self, prompt: Padded, query: Query) -> StreamSearch[GenerationResult]:
        found = yield from self.told(self._write(prompt, query.options), query)
        return self._result(found)

    def _write(self, prompt: Padded, options: Any) -> Search[list[Hypothesis]]:
        tokens = prompt.values
        generator = None if options.seed is None else torch.Generator(tokens.device).manual_seed(options.seed)
        samples = yield from sample_steps(
            None, self.text.read(tokens[:, :-1]), tokens[:, -1], end=self.tokenizer.end,
            max_length=options.max_length, temperature=options.temperature, top_k=options.top_k, generator=generator,
        )  # fmt: skip
        return sampled(samples, self.tokenizer.end)

    def _result(self, found: list[Hypothesis]) -> GenerationResult:
        return GenerationResult(
            text=join(self.tokenizer.words(found[0].tokens)),
            log_probability=round(found[0].log_probability, 4),
            # The head reads nothing but the text.
            modalities={"text": Contribution(contribution=1.0)},
        )


class TextDecoder:
    """The decoders' step contract over a causal text encoder and its language-model head; it attends to nothing."""

    def __init__(self, encoder: nn.Module, head: LanguageModelHead) -> None:
        """A decoder over ``encoder``.

        Raises:
            ValueError: the encoder is not causal, so it cannot go on from a state, or keeps none.
        """
        if not getattr(encoder, "causal", False):
            raise ValueError(
                "text is generated token by token: its encoder must be causal, such as a 'text-rnn' that is not "
                "bidirectional"
            )
        if not encoder.initial_state(1):  # type: ignore[operator]
            raise ValueError(
                "text is generated token by token: its encoder must remember the tokens before, such as a 'text-rnn'"
            )
        self.encoder: Any = encoder
        self.head = head

    def read(self, tokens: Tensor) -> State:
        """The state [B, 1, ...] after ``tokens`` int64 [B, T >= 0]."""
        state: State = self.encoder.initial_state(len(tokens), tokens.device)
        if tokens.shape[1]:
            _, state = self.encoder.step(tokens, state)
        return {name: value.unsqueeze(1) for name, value in state.items()}

    def step(self, tokens: Tensor, state: State, memory: None) -> StepAnswer:
        """Last tokens [B, K] -> log-probabilities [B, K, V], the next state and, of no memory, weights [B, K, 0]."""
        return self.step_together([StepCall(tokens, state, memory)])[0]

    def step_together(self, calls: Sequence[StepCall]) -> list[StepAnswer]:
        """The steps of several searches, as one over all their rows."""
        shapes = [call.tokens.shape for call in calls]
        sizes = [call.tokens.numel() for call in calls]
        state = {name: torch.cat([call.state[name].flatten(0, 1) for call in calls]) for name in calls[0].state}
        outputs, state = self.encoder.step(torch.cat([call.tokens.reshape(-1, 1) for call in calls]), state)
        scores = torch.split(self.head.score(outputs[:, -1]).log_softmax(1), sizes)
        after = {name: torch.split(value, sizes) for name, value in state.items()}
        return [
            (
                part.reshape(*shape, -1),
                {name: values[index].reshape(*shape, *values[index].shape[1:]) for name, values in after.items()},
                part.new_empty(*shape, 0),
            )
            for index, (part, shape) in enumerate(zip(scores, shapes, strict=True))
        ]


def _options(defaults: Mapping[str, Any]) -> type[Options]:
    return options_model(
        "GenerationOptions", defaults,
        max_length=(_MaxLength, 50), temperature=(_Temperature, 1.0), top_k=(_TopK, None), seed=(Seed, None),
    )  # fmt: skip
