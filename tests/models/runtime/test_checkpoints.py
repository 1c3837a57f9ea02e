"""Every shipped checkpoint computes on faster kernels what it computes on torch's."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models.decoding.decoder import Decoder
from models.pipeline import Pipeline
from models.sequence import Padded
from models.state import State
from tests.models.runtime.closeness import close

ZOO = sorted(path.parent for path in Path(next(iter(models.__path__))).glob("zoo/*/config.json"))
LENGTHS = {
    "image": ([1], [2, 1]),
    "text": ([9], [1, 40, 0, 7]),
    "audio": ([73], [200, 4, 0, 31]),
    "video": ([11], [5, 30, 9, 0]),
}
"""Of a bundle alone, and of some together; 0 is a modality that a row does not have."""


@cache
def pair(folder: Path) -> tuple[Pipeline, Pipeline]:
    """A checkpoint on torch's kernels, and as it is served."""
    return Pipeline.load(folder, runtime="torch"), Pipeline.load(folder)


def random(like: Tensor, rows: int, steps: int) -> Tensor:
    generator = torch.Generator().manual_seed(steps)
    shape = (rows, steps, *like.shape[1:])
    if like.is_floating_point():
        return torch.randn(shape, generator=generator)
    return torch.randint(0, int(like.max()) + 1, shape, generator=generator).to(like.dtype)


def inputs(pipeline: Pipeline, batch: int) -> dict[str, Padded]:
    padded = {}
    for name, like in pipeline.blank().tensors.items():
        lengths = LENGTHS[name][batch]
        if len(pipeline.config.modalities) == 1 or name == "image":
            lengths = [max(length, 1) for length in lengths]
        lengths = (lengths * 4)[: 1 if batch == 0 else 4]
        padded[name] = Padded(random(like, len(lengths), max(lengths)), torch.tensor(lengths))
    return padded


def values(network: Any, given: dict[str, Padded]) -> dict[str, Any]:
    """Everything that a head may read."""
    encoded = network.encode(given)
    found: dict[str, Any] = {
        name: (output.sequence, output.pooled, output.state) for name, output in encoded.outputs.items()
    }
    found["fused"] = (encoded.fusion.fused, encoded.fusion.contributions)
    return found


@pytest.mark.parametrize("batch", [0, 1], ids=["alone", "together"])
@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_encoders_and_fusion(folder: Path, batch: int) -> None:
    slow, fast = pair(folder)
    given = inputs(slow, batch)
    with torch.inference_mode():
        assert close(values(fast.network, given), values(slow.network, given))


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_a_stream_in_chunks(folder: Path) -> None:
    slow, fast = pair(folder)
    if slow.network.streaming_refusal():
        assert fast.network.streaming_refusal() == slow.network.streaming_refusal()
        return
    given = {name: padded.values for name, padded in inputs(slow, 0).items()}
    # Fusions of streams pair what the encoders give, some of which takes several steps of the features.
    strides = {name: getattr(slow.network.encoders[name], "stride", 1) for name in given}
    steps = min(value.shape[1] // strides[name] for name, value in given.items())
    whole = {name: value[:, : steps * strides[name]] for name, value in given.items()}
    lengths = {name: torch.tensor([value.shape[1]]) for name, value in whole.items()}
    present = torch.ones(1, len(whole), dtype=torch.bool)
    with torch.inference_mode():
        expected = slow.network.encode({name: Padded(value, lengths[name]) for name, value in whole.items()})
        for size in (4, 20):
            state, chunks = fast.network.initial_state(1), []
            for start in range(0, steps, size):
                chunk = {n: value[:, start * strides[n] : (start + size) * strides[n]] for n, value in whole.items()}
                encoded, state = fast.network.step(chunk, present, state)
                chunks.append(next(iter(encoded.outputs.values())).sequence)
            assert close(torch.cat(chunks, 1), next(iter(expected.outputs.values())).sequence)
            assert close(encoded.fusion.fused, expected.fusion.fused)


@pytest.mark.parametrize("folder", [folder for folder in ZOO if folder.name == "captioner"], ids=["captioner"])
def test_decoding_steps_of_shared_searches(folder: Path) -> None:
    slow, fast = pair(folder)
    given = inputs(slow, 1)
    languages = torch.tensor([0, 1, 1, 0])

    def decode(head: Any, encoded: Any) -> list[tuple[Tensor, State, Tensor]]:
        decoder: Decoder[Any] = head
        memory, state = head.remember(encoded, languages), head.initial_state(encoded.fusion.fused, 3)
        steps = []
        for tokens in torch.randint(5, 4000, (4, 4, 3), generator=torch.Generator().manual_seed(0)):
            steps.append(decoder.step(tokens, state, memory))
            state = steps[-1][1]
        return steps

    with torch.inference_mode():
        ours, reference = (decode(side.network.head, side.network.encode(given)) for side in (fast, slow))
    assert close(ours, reference)


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_it_says_what_it_runs_on_and_keeps_its_weights(folder: Path) -> None:
    slow, fast = pair(folder)
    assert (slow.runtime.name, slow.runtime.parts) == ("torch", {})
    assert fast.runtime.name == "packed"
    # Small networks may have no part that would gain.
    assert fast.runtime.parts or fast.parameters < 10**6
    assert not fast.runtime.refused
    assert fast.parameters == slow.parameters
    weights = slow.network.state_dict()
    assert fast.network.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in fast.network.state_dict().items())
