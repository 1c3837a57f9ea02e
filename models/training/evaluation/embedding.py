"""How well one modality of an example finds the other by the served embeddings."""

from itertools import permutations
from typing import Any

import numpy as np
import torch

from models.heads import EmbeddingHead
from models.pipeline import Pipeline
from models.training.evaluation.answers import encoded_batches
from models.training.examples import Split
from models.training.metrics.retrieval import retrieval_figures


@torch.inference_mode()
def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Recall at 1, 5 and 10 and the median rank with intervals, for each direction ``"image to text"``.

    The other modality of each example is found once, also where several examples share a medium.
    """
    assert isinstance(pipeline.network.head, EmbeddingHead)
    names = sorted(pipeline.config.modalities)
    found: dict[str, list[Any]] = {name: [] for name in names}
    for _, encoded in encoded_batches(pipeline, split):
        vectors = pipeline.network.head(encoded).vectors
        for name in names:
            found[name].append(vectors[name].double().cpu().numpy())
    joint = {name: np.concatenate(blocks) for name, blocks in found.items()}
    return {f"{a} to {b}": retrieval_figures(joint[a], joint[b]).intervals() for a, b in permutations(names, 2)}
