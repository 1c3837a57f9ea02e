"""A transformer of a few units in the files of all-MiniLM-L6-v2 or all-mpnet-base-v2."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
POSITIONS = 64


def pretrained(path: Path, words: Sequence[str], width: int = 12, *, mpnet: bool = False) -> Path:
    """A folder of random weights by their published names, MiniLM's or MPNet's; ``width`` is a multiple of 12."""
    path.mkdir()
    vocabulary = {word: place for place, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(vocabulary), width),
        "embeddings.position_embeddings.weight": (POSITIONS, width),
    }
    if mpnet:
        shapes["encoder.relative_attention_bias.weight"] = (32, 12)
        square, attention = [f"attention.attn.{part}" for part in "qkvo"], "attention"
    else:
        shapes["embeddings.token_type_embeddings.weight"] = (2, width)
        square = [f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense")]
        attention = "attention.output"
    linear = dict.fromkeys(square, (width, width)) | {"intermediate.dense": (16, width), "output.dense": (width, 16)}
    for layer in range(2):
        for name, shape in linear.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = shape
            shapes[f"encoder.layer.{layer}.{name}.bias"] = shape[:1]
    weights = {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    norms = ["embeddings.LayerNorm"]
    norms += [f"encoder.layer.{n}.{part}.LayerNorm" for n in range(2) for part in (attention, "output")]
    for name in norms:
        weights |= {f"{name}.weight": torch.rand(width) + 0.5, f"{name}.bias": torch.randn(width)}
    save_file(weights, path / "model.safetensors")
    return path
