"""The caption decoder's output layer, whose weights are the word embeddings; its other layers are linear ones."""

import torch

from models.heads.captioning import CaptioningHead
from models.runtime.acceleration import Accelerator, FastMethod
from models.runtime.linear import product, rows


def _build(head: CaptioningHead, precision: torch.dtype) -> FastMethod | None:
    return product(head.embedding.weight, head.bias, precision)


tied_output = Accelerator(
    CaptioningHead, "scores", _build, lambda head, generator: rows(head.embedding.embedding_dim, generator)
)
