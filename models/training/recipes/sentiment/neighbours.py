"""What a bidirectional text encoder learns from texts alone: each direction says which word comes next.

Forward and backward language models share word vectors, as in ELMo (Peters et al. 2018), and the words they choose
among are those same vectors (Press and Wolf 2017). A classifier starts from them (Dai and Le 2015).
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from models.encoders.text import TextRNN
from models.sequence import full_lengths
from models.training.recipes.waveforms import choice
from models.training.stage import bucketed
from models.training.trainer import Schedule, Stage

_WINDOW = 200
"""Words of a text that are read at once, from a random place on."""
_IGNORED = -100


class Neighbours(nn.Module):
    """A bidirectional encoder of one layer, and what says from its outputs which word is on either side."""

    def __init__(self, encoder: TextRNN, words: Tensor) -> None:
        """``words`` int64 [C]: the tokens that it chooses among, which are all that are read."""
        super().__init__()
        self.encoder = encoder
        self.hidden = encoder.output_size // 2
        size = encoder.embedding.embedding_dim
        self.after, self.before = nn.Linear(self.hidden, size), nn.Linear(self.hidden, size)
        self.bias = nn.Parameter(torch.zeros(len(words)))
        # Vectors begin at unit length, so that their products are too alike to tell words apart.
        self.scale = nn.Parameter(torch.tensor(float(size) ** 0.5))
        self.words: Tensor
        self.places: Tensor
        self.register_buffer("words", words)
        places = torch.full((encoder.embedding.num_embeddings,), _IGNORED)
        places[words] = torch.arange(len(words))
        self.register_buffer("places", places)

    def forward(self, ids: Tensor) -> Tensor:
        """The mean cross-entropy, in nats a word, of texts [B, T]; tokens that are not among ``words`` are padding."""
        sequence = self.encoder(ids, full_lengths(ids)).sequence
        ahead = self.after(sequence[:, :-1, : self.hidden]), self.places[ids[:, 1:]]
        back = self.before(sequence[:, 1:, self.hidden :]), self.places[ids[:, :-1]]
        return (self._loss(*ahead) + self._loss(*back)) / 2

    def _loss(self, guesses: Tensor, goals: Tensor) -> Tensor:
        # Of padding there is as much as of text at times, and the choice among all words is most of the work.
        real = goals != _IGNORED
        vectors = self.encoder.embedding.weight[self.words]
        logits = F.linear(guesses[real] * self.scale, vectors, self.bias)
        return F.cross_entropy(logits.float(), goals[real])


class NeighboursStage(Stage):
    """Texts without labels; the last epoch is kept."""

    name = "neighbours"

    def __init__(self, network: Neighbours, texts: Sequence[Tensor], padding: int, epochs: int) -> None:
        """``texts`` int64 [T] each, of two words or more; ``padding`` is none of the network's words."""
        self.network, self.texts, self.padding = network, texts, padding
        self.schedule = Schedule(epochs, "score", averaging=0.99, patience=epochs, bf16=True, weight_decay=1e-3)
        self.epoch = 0

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.network.parameters()), "lr": 3e-3}]

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def batches(self, generator: torch.Generator) -> list[Tensor]:
        return bucketed([min(len(text), _WINDOW) for text in self.texts], 32, generator)

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        ids = pad_sequence([self._window(int(row)) for row in batch], batch_first=True, padding_value=self.padding)
        loss = self.network(ids)
        return loss, {"nats_a_word": float(loss.detach())}

    def validate(self) -> dict[str, float]:
        return {"score": float(self.epoch)}

    def _window(self, row: int) -> Tensor:
        text = self.texts[row]
        start = choice(len(text) - _WINDOW + 1) if len(text) > _WINDOW else 0
        return text[start : start + _WINDOW]
