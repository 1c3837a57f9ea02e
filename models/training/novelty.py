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
from models.novelty import Novelty, save_novelty
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
        count, size = known[name].shape
        directions = min(DIRECTIONS, count // 8, size // 2)
        if directions and len(held[name]) >= LEAST:
            found[name] = Novelty.fit(known[name], held[name], directions)
    return found


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
