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
from torch.nn.functional import pad

from models.attention import AdditiveAttention
from models.encoded import Encoded, Sizes
from models.heads.reading import CommonMemory
from models.registry import HEADS, ComponentConfig
from models.rnn import CELLS, CellName
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
    attention: int = Field(256, ge=1, le=4096, description="0 regions attended alike when attend is 'mean'")
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

    def entries(self, memory: CaptionMemory) -> int:
        """How many regions the memory's widest row has."""
        return memory.mask.shape[1]

    def join(self, memories: Sequence[CaptionMemory]) -> CaptionMemory:
        """Memories below one another, those of fewer regions padded and masked."""
        widest = max(memory.mask.shape[1] for memory in memories)

        def together(name: str) -> Tensor:
            values: list[Tensor] = [getattr(memory, name) for memory in memories]
            return torch.cat([pad(value, (*(0, 0) * (value.ndim - 2), 0, widest - value.shape[1])) for value in values])

        languages = torch.cat([memory.languages for memory in memories])
        return CaptionMemory(together("values"), together("keys"), together("mask"), languages)

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
        context, weights = self._attend(state["h"], memory)
        context = torch.sigmoid(self.gate(state["h"])) * context
        state = self.cell.recur(embedded + self.visual(context), state)
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

    def step(self, tokens: Tensor, state: State, memory: CaptionMemory) -> tuple[Tensor, State, Tensor]:
        """One decoding step for the last ``tokens`` int64 [B, K].

        Returns log-probabilities [B, K, V] (-inf outside the row's language), the state and the weights [B, K, N].
        """
        state, context, weights = self.advance(self.embed(tokens), state, memory)
        scores = self.scores(self.features(state["h"], context))
        allowed = self.spoken[memory.languages].bool().unsqueeze(1)
        return scores.masked_fill(~allowed, float("-inf")).log_softmax(2), state, weights

    def _attend(self, hidden: Tensor, memory: CaptionMemory) -> tuple[Tensor, Tensor]:
        if self.attention is not None:
            context, weights = self.attention(hidden, memory.keys, memory.values, memory.mask)
            return context, weights
        uniform = memory.mask / memory.mask.sum(1, keepdim=True)
        mean = masked_mean(memory.values, memory.mask.sum(1))
        rows = hidden.shape[1]
        return mean.unsqueeze(1).expand(-1, rows, -1), uniform.unsqueeze(1).expand(-1, rows, -1)
