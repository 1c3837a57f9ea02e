"""A split's answers from the pipeline that serves the checkpoint, and its encoded batches."""

from collections.abc import Iterator
from typing import Any

import torch

from models.encoded import Encoded
from models.features import Extracted
from models.media.errors import MediaError
from models.media.limits import MediaLimits
from models.pipeline import Pipeline, parts_for
from models.sequence import Padded, pad
from models.training.examples import Example, Split
from models.training.manifest import DataError
from models.training.progress import progress


def answers(pipeline: Pipeline, split: Split, **options: Any) -> list[Any]:
    """The served result for every example, asked for one at a time.

    Raises:
        DataError: a medium cannot be read.
    """
    chosen = pipeline.options.model_validate(options)
    results = []
    with progress("answers", total=len(split.examples)) as advance:
        for example in split.examples:
            results.append(pipeline.predict(extracted(pipeline, split, example), chosen))
            advance()
    return results


def encoded_batches(pipeline: Pipeline, split: Split, size: int = 25) -> Iterator[tuple[list[Extracted], Encoded]]:
    """The examples' features and encodings, ``size`` at a time: for searches over many rows at once."""
    with progress("batches", total=-(-len(split.examples) // size)) as advance:
        for first in range(0, len(split.examples), size):
            features = [extracted(pipeline, split, example) for example in split.examples[first : first + size]]
            yield features, pipeline.network.encode(_padded(features, pipeline.device))
            advance()


def extracted(pipeline: Pipeline, split: Split, example: Example) -> Extracted:
    """An example's features, by the code that serves."""
    modalities = pipeline.config.modalities
    parts = {name: parts_for(name, item.features, modalities) for name, item in modalities.items()}
    try:
        return pipeline.features(pipeline.decode(split.sources(example, parts), MediaLimits()))
    except MediaError as error:
        raise DataError(f"{split.name}.jsonl, {example.name()}, cannot be used: {error}") from error


def _padded(features: list[Extracted], device: torch.device) -> dict[str, Padded]:
    found = {name: tensor for one in features for name, tensor in one.tensors.items()}
    return {
        name: pad([one.tensors.get(name, like.new_zeros(0, *like.shape[1:])) for one in features]).to(device)
        for name, like in found.items()
    }
