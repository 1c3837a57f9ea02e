"""Learning what a finished network's training media look like to it, so that its answers can tell what is new."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.checkpoint import NOVELTY
from models.encoded import Encoded
from models.novelty import KNOWN, Novelty, save_novelty
from models.pipeline import Pipeline
from models.training.corpus import Corpus, Part
from models.training.evaluation.answers import encoded_batches
from models.training.evaluation.examples import inline_parts
from models.training.examples import read_split
from models.training.manifest import DataError
from models.training.progress import progress
from models.training.report import Faults

DIRECTIONS = 64
"""Of a modality's vectors that are told apart: on photos fewer find less, and more hardly more."""
LEAST = 50
"""Held-back media of a modality below which nobody can say what 2 % of them exceed."""
_MOST = 4000
"""Examples of a split that are looked at, evenly spread: many for 64 directions, and soon looked at."""
_BATCH = 25


def learn_novelty(folder: Path, data: Sequence[Path], device: str = "cpu") -> dict[str, int]:
    """Write ``novelty.safetensors`` into a checkpoint's folder, from the folders of media that it was trained on.

    It is learned of each modality of which ``val.jsonl`` has 50 media or more; where there is none, no file is written.

    Returns:
        From how many training media, by modality.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: a line of the data cannot be used.
    """
    pipeline = Pipeline.load(folder, device)
    held = gathered(_encoded(pipeline, data, "val"))
    if all(len(rows) < LEAST for rows in held.values()):
        return {}
    known = gathered(_encoded(pipeline, data, "train"))
    found = fitted(known, held)
    if found:
        save_novelty(folder / NOVELTY, found)
    return {name: len(known[name]) for name in found}


def corpus_novelty(pipeline: Pipeline, corpus: Corpus) -> dict[str, Novelty]:
    """By modality, what the features say that a checkpoint was trained on, where there are enough of them."""
    if all(np.count_nonzero(lengths) < LEAST for lengths in corpus.val.lengths.values()):
        return {}

    def encoded(part: Part) -> Iterator[Encoded]:
        batches = torch.split(_spread(len(part.rows)), _BATCH)
        with progress(f"what is known, {part.split.name}", total=len(batches)) as advance:
            for batch in batches:
                inputs = part.inputs(batch).items()
                yield pipeline.network.encode({name: padded.to(pipeline.device) for name, padded in inputs})
                advance()

    return fitted(gathered(encoded(corpus.train)), gathered(encoded(corpus.val)))


@torch.inference_mode()
def gathered(batches: Iterable[Encoded]) -> dict[str, Tensor]:
    """The pooled vectors [N, D] of the rows that have a modality, by modality."""
    rows: dict[str, list[Tensor]] = defaultdict(list)
    for batch in batches:
        for name, output in batch.outputs.items():
            usable = (output.lengths > 0) & output.pooled.isfinite().all(1)
            rows[name].append(output.pooled[usable].cpu())
    return {name: torch.cat(vectors) for name, vectors in rows.items()}


def fitted(known: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> dict[str, Novelty]:
    """By modality, what vectors [N, D] of training media and [M, D] of held-back ones say, where there are enough."""
    found = {}
    for name in sorted(known.keys() & held.keys()):
        directions = _directions(known[name])
        if directions and len(held[name]) >= LEAST:
            found[name] = Novelty.fit(known[name], held[name], directions)
    return found


def cross_fitted(known: Tensor, folds: Sequence[tuple[Tensor, Tensor]]) -> Novelty:
    """What vectors [N, D] of a network's training media say, of which none was held back.

    Where the unknown begins, networks tell that were each trained without a fold: how many times as far the media held
    back are as those in the middle of the ones learned from.

    Args:
        folds: of each such network the vectors of media it learned from [N_k, D], and of those of its fold [M_k, D].
    """
    times = []
    for inside, held in folds:
        found = Novelty.fit(inside, inside, _directions(inside))
        times.append(found.distance(held) / found.distance(inside).median())
    found = Novelty.fit(known, known, _directions(known))
    beyond = torch.quantile(torch.cat(times), KNOWN, interpolation="higher")
    found.limit.copy_(beyond * found.distance(known).median())
    return found


def _directions(vectors: Tensor) -> int:
    return min(DIRECTIONS, len(vectors) // 8, vectors.shape[1] // 2)


def _encoded(pipeline: Pipeline, data: Sequence[Path], split: str) -> Iterator[Encoded]:
    for folder in data:
        faults = Faults()
        listed = read_split(folder, split, pipeline.accepts, inline_parts(pipeline), lambda _: None, faults)
        if faults.found:
            raise DataError(f"{split}.jsonl cannot be learned from.\n" + "\n".join(faults.lines()))
        examples = [listed.examples[place] for place in _spread(len(listed.examples)).tolist()]
        for _, batch in encoded_batches(pipeline, replace(listed, examples=examples), _BATCH):
            yield batch


def _spread(count: int) -> Tensor:
    return torch.linspace(0, count - 1, min(count, _MOST)).round().long()
