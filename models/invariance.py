"""Whether a network's answer to one request is the same beside any other: what serving in batches rests on."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from models.encoded import Encoded
from models.features import Extracted
from models.pipeline import Pipeline

_TOLERANCE = 1e-3
"""Of the largest number compared: what other orders of adding make of float32, ten times over."""
_STEPS = 4
_REMEDY = "let it leave out every step from a row's length on, and rows whose length is 0 altogether"


@torch.inference_mode()
def faults(pipeline: Pipeline) -> Iterator[str]:
    """What of a checkpoint's encoded rows depends on its batch-mates, on made-up media; nothing where all is well.

    A short row is encoded by itself and padded to a longer one's length, and, where modalities may be missing, one that
    lacks a modality beside one that has it.
    """
    row, long = _varied(pipeline, 0), _varied(pipeline, 1)
    short = {name: tensor[: max(len(tensor) // 2, 1)] for name, tensor in row.items()}
    yield from _differences(pipeline, short, long, "a longer one stands in its batch")
    for name, item in pipeline.config.modalities.items():
        if len(long) > 1 and not item.required:
            without = {other: tensor for other, tensor in row.items() if other != name}
            yield from _differences(pipeline, without, long, f"another one in its batch has {name} and it has none")


def _varied(pipeline: Pipeline, seed: int) -> dict[str, Tensor]:
    """Media of several steps, none of which is like another: made-up ones are black and silent, as padding is."""
    chance = torch.Generator().manual_seed(seed)
    tensors = pipeline.blank().tensors
    found: dict[str, Tensor] = {}
    for name, config in pipeline.config.network.encoders.items():
        tensor = tensors[name]
        long = torch.cat([tensor] * -(-_STEPS // len(tensor)))
        if long.is_floating_point():
            found[name] = long + torch.randn(long.shape, generator=chance)
        else:  # pixels, or the numbers of words
            most = getattr(config, "vocabulary", 256)
            found[name] = torch.randint(most, long.shape, generator=chance, dtype=long.dtype)
    return found


def _differences(
    pipeline: Pipeline, row: Mapping[str, Tensor], other: Mapping[str, Tensor], when: str
) -> Iterator[str]:
    try:
        alone = _numbers(_encoded(pipeline, row))
        beside = _numbers(_encoded(pipeline, row, other))
    # The folder may hold a user's own network, which may raise anything.
    except Exception as error:  # noqa: BLE001
        yield f"it fails when {when}: {error!r}. In its forward, {_REMEDY}."
        return
    for part, numbers in alone.items():
        if numbers.shape != beside[part].shape:
            yield f"{part} has the shape {list(numbers.shape)} alone and {list(beside[part].shape)} when {when}."
            continue
        apart = float((numbers - beside[part]).abs().max()) if numbers.numel() else 0.0
        if not apart <= _TOLERANCE * max(float(numbers.abs().max()), 1.0):
            yield f"{part} changes by {apart:.2g} when {when}. In its forward, {_REMEDY}."
            return  # What comes after it changes with it.


def _encoded(pipeline: Pipeline, *rows: Mapping[str, Tensor]) -> Encoded:
    bundles = [Extracted(dict(row)) for row in rows]
    return pipeline.network.encode(pipeline.padded(bundles)).row(0)


def _numbers(encoded: Encoded) -> dict[str, Tensor]:
    """All that a head may read of one row, by the part that made it, in the order in which they compute."""
    found: dict[str, Tensor] = {}
    for name, output in encoded.outputs.items():
        found[f"the sequence of the encoder of {name}"] = output.sequence
        found[f"what the encoder of {name} pools"] = output.pooled
    found["what the fusion gives"] = encoded.fusion.fused
    if encoded.fusion.sequence is not None:
        found["the sequence of the fusion"] = encoded.fusion.sequence.sequence
    return found
