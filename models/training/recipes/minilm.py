"""MiniLM (Wang et al. 2020), a small pre-trained transformer: a teacher of recurrent networks, never served.

The weights are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): ``model.safetensors`` and
``tokenizer.json`` in one folder.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.features.text import TextTokenizer
from models.sequence import Padded, length_mask, masked_mean, pad
from models.training.manifest import DataError

HEADS = 12
LONGEST = 64


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


class MiniLM(nn.Module):
    """Word pieces {"text": [B, T]} -> logits [B, classes] of a linear layer over the mean of all outputs."""

    def __init__(self, classes: int, *, vocabulary: int, positions: int, width: int, inner: int, layers: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        layer = nn.TransformerEncoderLayer(
            width, HEADS, inner, dropout=0.1, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
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
                f"{path} does not exist: put model.safetensors and tokenizer.json of all-MiniLM-L6-v2 there"
            )
        given = {name: value.float() for name, value in load_file(path).items()}
        words, positions = (given[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position"))
        inner = len(given["encoder.layer.0.intermediate.dense.bias"])
        layers = sum(name.endswith(".intermediate.dense.bias") for name in given)
        network = cls(
            classes, vocabulary=len(words), positions=len(positions), width=words.shape[1], inner=inner, layers=layers
        )
        network.words.load_state_dict({"weight": words})
        # All texts are the first segment: its vector is part of every position.
        network.positions.load_state_dict({"weight": positions + given["embeddings.token_type_embeddings.weight"][0]})
        network.norm.load_state_dict(_of(given, "embeddings.LayerNorm"))
        for index, layer in enumerate(network.layers.layers):
            layer.load_state_dict(_layer(given, f"encoder.layer.{index}"))
        return network

    def hidden(self, text: Padded) -> Tensor:
        """The last layer's outputs [B, T, D]; those of padding mean nothing."""
        steps = torch.arange(text.values.shape[1])
        embedded = self.dropout(self.norm(self.words(text.values) + self.positions(steps)))
        hidden: Tensor = self.layers(embedded, src_key_padding_mask=~length_mask(text.lengths, len(steps)))
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
            with torch.autocast("cpu", torch.bfloat16):
                found.append(compute(pad([pieces[int(row)] for row in rows])))
        return torch.cat(found)[order.argsort()]


def word_vectors(
    tokenizer: TextTokenizer,
    teacher: MiniLM,
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


def _of(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {"weight": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}


def _layer(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """One layer, by the names of ``nn.TransformerEncoderLayer``."""
    parts = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    layer = {
        f"{mine}.{kind}": weights[f"{name}.{theirs}.{kind}"]
        for mine, theirs in parts.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        projections = [weights[f"{name}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        layer[f"self_attn.in_proj_{kind}"] = torch.cat(projections)
    return layer
