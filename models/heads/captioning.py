"""Caption decoder: a recurrent network that attends to regions (Xu et al. 2015, "Show, Attend and Tell", soft).

One decoder writes several languages: the first input token names the language, and only that language's tokens can
follow. Word embeddings are tied to the output layer (Press and Wolf 2017).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.attention import AdditiveAttention
from models.cells import CELLS, CellName
from models.decoding.decoder import StepAnswer, StepCall
from models.encoded import Encoded, Sizes
from models.heads.reading import CommonMemory
from models.registry import HEADS, ComponentConfig
from models.sequence import SequenceOutput, length_mask, masked_mean
from models.state import State
from models.stepwise import StepLinear


class CaptioningConfig(ComponentConfig):
    """Sizes of a ``captioning`` head."""

    type: Literal["captioning"] = "captioning"
    languages: tuple[str, ...] = Field(min_length=1, max_length=64)
    vocabulary: int = Field(ge=4, le=200_000)
    cell: CellName = "lstm"
    hidden: int = Field(512, ge=1, le=4096)
    embedding: int = Field(384, ge=1, le=4096)
    attention: int = Field(256, ge=1, le=4096, description="Of 'additive'; nothing reads it with 'mean'")
    attend: Literal["additive", "mean"] = Field("additive", description="'mean' is the baseline without attention")
    dropout: float = Field(0.0, ge=0, lt=1)

    @classmethod
    def tiny(cls) -> Self:
        return cls(languages=("en",), vocabulary=12, hidden=8, embedding=6, attention=4)

    @classmethod
    def variants(cls) -> list[Self]:
        """One tiny instance a way to attend, and a cell."""
        return [cls.tiny(), cls(languages=("en",), vocabulary=12, hidden=8, embedding=6, cell="gru", attend="mean")]


@dataclass(frozen=True, slots=True)
class CaptionMemory:
    """What the decoder looks at: ``values`` [B, N, D], their attention keys, the mask [B, N], languages [B]."""

    values: Tensor
    keys: Tensor
    mask: Tensor
    languages: Tensor


@HEADS.register("captioning", CaptioningConfig)
class CaptioningHead(nn.Module):
    """Rows are [B, K]: K hypotheses, samples or reference captions over each of B memories."""

    spoken: Tensor

    def __init__(self, config: CaptioningConfig, sizes: Sizes) -> None:
        super().__init__()
        self.config = config
        self.common = CommonMemory(sizes.modalities, config.hidden)
        memory_size = self.common.output_size
        self.cell = CELLS[config.cell](config.embedding, config.hidden)
        self.visual = StepLinear(memory_size, self.cell.gates * config.hidden, bias=False)
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.attention = (
            AdditiveAttention(config.hidden, memory_size, config.attention) if config.attend == "additive" else None
        )
        self.initial = nn.ModuleDict({name: nn.Linear(sizes.fused, config.hidden) for name in self.cell.state_names})
        self.gate = StepLinear(config.hidden, memory_size)
        self.output_hidden = nn.Linear(config.hidden, config.embedding)
        self.output_context = nn.Linear(memory_size, config.embedding, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.dropout = nn.Dropout(config.dropout)
        # Which tokens each language may write, [L, V] of 0 and 1: it belongs to the weights, as the vocabulary does.
        self.register_buffer("spoken", torch.ones(len(config.languages), config.vocabulary, dtype=torch.uint8))
        nn.init.normal_(self.embedding.weight, std=config.embedding**-0.5)

    def remember(self, encoded: Encoded, languages: Tensor) -> CaptionMemory:
        """The memory of an encoded batch; ``languages`` int64 [B] are indices into the config's languages."""
        regions: SequenceOutput = self.common(encoded)
        keys = regions.sequence if self.attention is None else self.attention.keys(regions.sequence)
        mask = length_mask(regions.lengths, regions.sequence.shape[1])
        return CaptionMemory(regions.sequence, keys, mask, languages)

    def initial_state(self, fused: Tensor, rows: int = 1) -> State:
        """State before the first token, each tensor [B, rows, H], from ``fused`` [B, F]."""
        return {
            name: torch.tanh(layer(fused)).unsqueeze(1).expand(-1, rows, -1) for name, layer in self.initial.items()
        }

    def embed(self, tokens: Tensor) -> Tensor:
        """The part of the cell's input projection that needs only the tokens: int64 [...] -> [..., gates * H]."""
        projected: Tensor = self.cell.input(self.dropout(self.embedding(tokens)))
        return projected

    def advance(self, embedded: Tensor, state: State, memory: CaptionMemory) -> tuple[State, Tensor, Tensor]:
        """Attend and recur once: (next state, context [B, K, D], weights [B, K, N])."""
        context, weights = self._attend(self._query(state["h"]), memory)
        state, context = self._recur(embedded, state, context)
        return state, context, weights

    def features(self, hidden: Tensor, context: Tensor) -> Tensor:
        """What the output layer multiplies with the word embeddings: [..., E]."""
        mixed: Tensor = self.output_hidden(self.dropout(hidden)) + self.output_context(context)
        dropped: Tensor = self.dropout(mixed)
        return dropped

    def vocabulary(self, language: int) -> Tensor:
        """Ids, ascending int64, of the tokens that a language may write."""
        ids: Tensor = self.spoken[language].nonzero().squeeze(1)
        return ids

    def logits(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Scores [..., len(tokens)] of the given vocabulary entries."""
        return nn.functional.linear(features, self.embedding.weight[tokens], self.bias[tokens])

    def scores(self, features: Tensor) -> Tensor:
        """Scores [..., V] of the whole vocabulary."""
        return nn.functional.linear(features, self.embedding.weight, self.bias)

    def step(self, tokens: Tensor, state: State, memory: CaptionMemory) -> StepAnswer:
        """One decoding step for the last ``tokens`` int64 [B, K].

        Returns log-probabilities [B, K, V] (-inf outside the row's language), the state and the weights [B, K, N].
        """
        return self.step_together([StepCall(tokens, state, memory)])[0]

    def step_together(self, calls: Sequence[StepCall]) -> list[StepAnswer]:
        """The steps of several searches: each attends to its own memory, all else is one product over their rows."""
        shapes = [call.tokens.shape for call in calls]
        sizes = [call.tokens.numel() for call in calls]
        state = {name: torch.cat([call.state[name].flatten(0, 1) for call in calls]) for name in self.cell.state_names}
        queries = torch.split(self._query(state["h"]), sizes)
        # One after the other: what a search compares with its regions fits into the cache, that of all does not.
        looks = [
            self._attend(query.reshape(*shape, -1), call.memory)
            for query, shape, call in zip(queries, shapes, calls, strict=True)
        ]
        tokens = torch.cat([call.tokens.flatten() for call in calls])
        languages = torch.cat([call.memory.languages.repeat_interleave(call.tokens.shape[1]) for call in calls])
        context = torch.cat([context.flatten(0, 1) for context, _ in looks])
        scores, *values = self.write(tokens, languages, context, *state.values())
        after = {name: torch.split(value, sizes) for name, value in zip(state, values, strict=True)}
        return [
            (
                part.reshape(*shape, -1),
                {name: values[index].reshape(*shape, -1) for name, values in after.items()},
                looks[index][1],
            )
            for index, (part, shape) in enumerate(zip(torch.split(scores, sizes), shapes, strict=True))
        ]

    def write(self, tokens: Tensor, languages: Tensor, context: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """What a step does after it has looked, for R hypotheses in rows.

        From the last ``tokens`` int64 [R], ``languages`` int64 [R], what was looked at [R, D] and the state's tensors
        [R, H] to log-probabilities [R, V] (-inf outside the row's language) and the next state's tensors.
        """
        before = dict(zip(self.cell.state_names, state, strict=True))
        after, context = self._recur(self.embed(tokens), before, context)
        scores = self.scores(self.features(after["h"], context))
        scores = scores.masked_fill(~self.spoken[languages].bool(), float("-inf")).log_softmax(1)
        return scores, *(after[name] for name in self.cell.state_names)

    def _query(self, hidden: Tensor) -> Tensor:
        return hidden if self.attention is None else self.attention.query(hidden)

    def _recur(self, embedded: Tensor, state: State, context: Tensor) -> tuple[State, Tensor]:
        """The next state, and what the gate lets through of the context."""
        context = torch.sigmoid(self.gate(state["h"])) * context
        return self.cell.recur(embedded + self.visual(context), state), context

    def _attend(self, query: Tensor, memory: CaptionMemory) -> tuple[Tensor, Tensor]:
        if self.attention is not None:
            context, weights = self.attention(query, memory.keys, memory.values, memory.mask)
            return context, weights
        uniform = memory.mask / memory.mask.sum(1, keepdim=True)
        mean = masked_mean(memory.values, memory.mask.sum(1))
        rows = query.shape[1]
        return mean.unsqueeze(1).expand(-1, rows, -1), uniform.unsqueeze(1).expand(-1, rows, -1)
