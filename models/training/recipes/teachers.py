"""Pre-trained transformers that read sentences: teachers of recurrent networks, never served.

MiniLM (Wang et al. 2020) is built as BERT is. MPNet (Song et al. 2020) adds to each score of its attention a number
learned for the distance of the two pieces, in the buckets of T5 (Raffel et al. 2020, sec. 2.1). The weights are those
of sentence-transformers/all-MiniLM-L6-v2 and all-mpnet-base-v2 (both Apache-2.0): ``model.safetensors`` and
``tokenizer.json`` in one folder.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.features.text import TextTokenizer
from models.sequence import Padded, length_mask, masked_mean, pad
from models.training.manifest import DataError
from models.training.trainer import multiplies_bf16

HEADS = 12
LONGEST = 64
BUCKETS, FURTHEST = 32, 128
"""Distances between pieces have so many numbers, and from ``FURTHEST`` on the same one."""
_MPNET_FIRST = 2
"""MPNet keeps the first rows of its positions for padding."""


class WordPieces:
    """The tokenizer of the pre-trained weights, which reads the first ``LONGEST`` pieces of a text."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(LONGEST)

    def __call__(self, texts: Sequence[str]) -> list[Tensor]:
        """Ids int64 [T_i] of each text, between its start and end tokens."""
        return [torch.tensor(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]

    def whole_words(self, count: int) -> list[str]:
        """The ``count`` most frequent pieces that are words of three letters or more, as the vocabulary orders them."""
        pieces = sorted(self._tokenizer.get_vocab().items(), key=lambda item: item[1])
        words = (piece for piece, _ in pieces if len(piece) > 2 and piece.isascii() and piece.isalpha())
        return [word for word, _ in zip(words, range(count), strict=False)]


class _Layer(nn.Module):
    """Attention, then a layer of its own for each piece; each is normalized after what it read is added to it."""

    def __init__(self, width: int, inner: int, eps: float) -> None:
        super().__init__()
        self.project, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` [B, T, D], and what is added to the scores [B or 1, heads or 1, T or 1, T] -> [B, T, D]."""
        query, key, value = self.project(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype), dropout)
        x = self.norm1(x + self.dropout(self.mix(attended.transpose(1, 2).flatten(2))))
        hidden: Tensor = self.norm2(x + self.dropout(self.narrow(self.dropout(F.gelu(self.widen(x))))))
        return hidden


class Transformer(nn.Module):
    """Word pieces {"text": [B, T]} -> logits [B, classes] of a linear layer over the mean of all outputs."""

    def __init__(
        self,
        classes: int,
        *,
        vocabulary: int,
        positions: int,
        width: int,
        inner: int,
        layers: int,
        eps: float,
        by_distance: bool,
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.distances = nn.Embedding(BUCKETS, HEADS) if by_distance else None
        self.norm = nn.LayerNorm(width, eps=eps)
        self.layers = nn.ModuleList(_Layer(width, inner, eps) for _ in range(layers))
        self.dropout = nn.Dropout(0.1)
        self.output = nn.Linear(width, classes)

    @classmethod
    def pretrained(cls, folder: Path, classes: int = 1) -> Self:
        """A network with the weights in ``folder``; only what gives the classes is new.

        Raises:
            DataError: they are not there.
        """
        path = folder / "model.safetensors"
        if not path.is_file():
            raise DataError(
                f"{path} does not exist: put model.safetensors and tokenizer.json of the sentence transformer there"
            )
        given = {name: value.float() for name, value in load_file(path).items() if value.is_floating_point()}
        distances = given.get("encoder.relative_attention_bias.weight")
        words, positions = (given[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
        if distances is None:
            # All texts are the first segment: its vector is part of every position.
            positions = positions + given["embeddings.token_type_embeddings.weight"][0]
        else:
            positions = positions[_MPNET_FIRST:]
        network = cls(
            classes,
            vocabulary=len(words),
            positions=len(positions),
            width=words.shape[1],
            inner=len(given["encoder.layer.0.intermediate.dense.bias"]),
            layers=sum(name.endswith(".intermediate.dense.bias") for name in given),
            eps=1e-12 if distances is None else 1e-5,
            by_distance=distances is not None,
        )
        network.words.load_state_dict({"weight": words})
        network.positions.load_state_dict({"weight": positions})
        if network.distances is not None:
            network.distances.load_state_dict({"weight": distances})
        network.norm.load_state_dict(_of(given, "embeddings.LayerNorm"))
        for index, layer in enumerate(network.layers):
            layer.load_state_dict(_layer(given, f"encoder.layer.{index}", _BERT if distances is None else _MPNET))
        return network

    def hidden(self, text: Padded) -> Tensor:
        """The last layer's outputs [B, T, D]; those of padding mean nothing."""
        steps = text.values.shape[1]
        hidden: Tensor = self.dropout(self.norm(self.words(text.values) + self.positions.weight[:steps]))
        padding = ~length_mask(text.lengths, steps)[:, None, None]
        mask = torch.zeros_like(padding, dtype=hidden.dtype).masked_fill(padding, -math.inf)
        if self.distances is not None:
            mask = mask + self.distances(buckets(steps)).permute(2, 0, 1)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return hidden

    def forward(self, inputs: Mapping[str, Padded]) -> Tensor:
        """The logits [B, classes]."""
        text = inputs["text"]
        logits: Tensor = self.output(self.dropout(masked_mean(self.hidden(text), text.lengths)))
        return logits

    @torch.inference_mode()
    def answers(self, pieces: Sequence[Tensor], batch: int = 64) -> Tensor:
        """Probabilities [N, C] of texts."""
        return self._in_batches(pieces, batch, lambda text: self({"text": text}).float().softmax(1))

    @torch.inference_mode()
    def vectors(self, pieces: Sequence[Tensor], batch: int = 256) -> Tensor:
        """The mean output [N, D] over the pieces of each word, without start and end."""
        return self._in_batches(
            pieces, batch, lambda text: masked_mean(self.hidden(text)[:, 1:].float(), text.lengths - 2)
        )

    def _in_batches(self, pieces: Sequence[Tensor], batch: int, compute: Callable[[Padded], Tensor]) -> Tensor:
        self.eval()
        order = torch.tensor([len(ids) for ids in pieces]).argsort(stable=True)
        found: list[Tensor] = []
        for rows in torch.split(order, batch):
            with torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bf16()):
                found.append(compute(pad([pieces[int(row)] for row in rows])))
        return torch.cat(found)[order.argsort()]


def buckets(steps: int) -> Tensor:
    """The number of the distance from each of ``steps`` pieces (down) to each (across), int64 [steps, steps].

    Half of them are for what comes after. Of each half the first half are single distances, and the others ever longer
    ranges, up to ``FURTHEST``.
    """
    places = torch.arange(steps)
    behind = places.unsqueeze(1) - places
    half, single = BUCKETS // 2, BUCKETS // 4
    distance = behind.abs()
    ranges = (distance.clamp(min=1) / single).log() / math.log(FURTHEST / single) * (half - single)
    found = torch.where(distance < single, distance, (single + ranges.long()).clamp(max=half - 1))
    return found + half * (behind < 0)


def word_vectors(
    tokenizer: TextTokenizer,
    teacher: Transformer,
    pieces: WordPieces,
    size: int,
) -> Tensor:
    """What the teacher makes of each English word by itself, in its ``size`` principal components; zeros for others.

    float32 [vocabulary, size], of unit length on average.
    """
    words = tokenizer.words(range(tokenizer.size))
    rows = [row for row, word in enumerate(words) if word.isascii() and word.replace("'", "").isalnum()]
    given = teacher.vectors(pieces([words[row] for row in rows]))
    centred = given - given.mean(0)
    directions = torch.linalg.eigh(centred.t() @ centred).eigenvectors[:, -size:]
    small = centred @ directions
    vectors = torch.zeros(tokenizer.size, size)
    vectors[rows] = small / small.norm(dim=1).mean()
    return vectors


_BERT = {
    "project": "attention.self.query attention.self.key attention.self.value",
    "mix": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm2": "output.LayerNorm",
}
_MPNET = _BERT | {
    "project": "attention.attn.q attention.attn.k attention.attn.v",
    "mix": "attention.attn.o",
    "norm1": "attention.LayerNorm",
}


def _of(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}


def _layer(weights: Mapping[str, Tensor], name: str, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of one layer by ``_Layer``'s names; what stands in several files' tensors is one here."""
    return {
        f"{mine}.{kind}": torch.cat([weights[f"{name}.{theirs}.{kind}"] for theirs in given.split()])
        for mine, given in names.items()
        for kind in ("weight", "bias")
    }
