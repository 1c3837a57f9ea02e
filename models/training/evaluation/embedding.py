"""How well one modality of an example finds the other by the served embeddings."""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.heads import EmbeddingHead
from models.pipeline import Pipeline
from models.training.evaluation.answers import encoded_batches
from models.training.examples import Split
from models.training.metrics.retrieval import group_retrieval_figures, pair_retrieval_figures
from models.training.pairs import Pairs

_TEXTS = 100


@torch.inference_mode()
def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """Recall at 1, 5 and 10 and the median rank with intervals, for each direction ``"image to text"``.

    Of examples that share a medium any one's other modality is right, the first to be found counts, and intervals are
    taken over media, those of the modality that has fewer. Where the examples have sentences by language as their
    target, those are the texts, and directions are called ``"en, image to text"``: of an example's sentences the first
    to be found counts, and each is to find the example. A language's figures are over the examples that have it, as if
    there were no others.
    """
    found = _vectors(pipeline, split)
    if any(example.target is not None for example in split.examples):
        return _sentence_figures(pipeline, split, found)
    names = list(pipeline.config.modalities)
    pairs = Pairs([{str(name): example.digests[name] for name in names} for example in split.examples])
    return {
        f"{a} to {b}": pair_retrieval_figures(found[a], found[b], pairs, (a, b), pairs.coarser(a, b)).intervals()
        for a, b in permutations(found, 2)
    }


def _sentence_figures(pipeline: Pipeline, split: Split, found: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    measured = {}
    for language in sorted({language for example in split.examples for language in example.target}):
        rows = [row for row, example in enumerate(split.examples) if language in example.target]
        texts = [split.examples[row].target[language] for row in rows]
        places = np.arange(len(rows))
        owners = np.repeat(places, [len(sentences) for sentences in texts])
        vectors = _text_vectors(pipeline, [sentence for sentences in texts for sentence in sentences])
        for name, others in found.items():
            there = group_retrieval_figures(others[rows], vectors, places, owners)
            back = group_retrieval_figures(vectors, others[rows], owners, places)
            measured[f"{language}, {name} to text"] = there.intervals()
            measured[f"{language}, text to {name}"] = back.intervals()
    return measured


def _vectors(pipeline: Pipeline, split: Split) -> dict[str, NDArray[np.float64]]:
    """By modality that the examples have, in alphabetical order."""
    assert isinstance(pipeline.network.head, EmbeddingHead)
    found: dict[str, list[Any]] = {}
    for _, encoded in encoded_batches(pipeline, split):
        vectors = pipeline.network.head(encoded).vectors
        for name in sorted(encoded.outputs):
            found.setdefault(name, []).append(vectors[name].double().cpu().numpy())
    return {name: np.concatenate(blocks) for name, blocks in sorted(found.items())}


def _text_vectors(pipeline: Pipeline, texts: Sequence[str]) -> NDArray[np.float64]:
    blocks = []
    for first in range(0, len(texts), _TEXTS):
        read = [pipeline.features(pipeline.decode({"text": text})) for text in texts[first : first + _TEXTS]]
        vectors = pipeline.network.head(pipeline.network.encode(pipeline.padded(read))).vectors["text"]
        blocks.append(vectors.double().cpu().numpy())
    return np.concatenate(blocks)
