"""Shipped checkpoints on a CUDA device, where there is one: the answers of the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import models
from models.features import Extracted, Modality
from models.pipeline import Pipeline
from models.tasks.task import Query
from tests.models.features.faces import face, textured
from tests.models.media.make import clip, encoded, recorded
from tests.models.streaming.sounds import RATE, babble

ZOO = sorted(path.parent for path in (Path(next(iter(models.__path__))) / "zoo").glob("*/config.json"))
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def numbers(value: Any) -> list[float]:
    """All numbers of an answer, in order."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def made(pipeline: Pipeline) -> Extracted:
    """Noise, a sound like speech, and someone who speaks: of blank media every network says the same."""
    rng = np.random.default_rng(0)
    picture = encoded(rng.integers(0, 256, (200, 240, 3), np.uint8), "PNG")
    speaker = clip([textured(face(160, 120, 90, opened=(n % 9) / 8)) for n in range(50)], rate=25)
    media: dict[Modality, bytes | str] = {
        "image": picture, "audio": recorded(babble(2, 0)[:, None], RATE), "video": speaker, "text": "no. 7, 好狗!",
    }  # fmt: skip
    return pipeline.features(pipeline.decode({name: media[name] for name in pipeline.config.modalities}))


@torch.inference_mode()
def encodings(pipeline: Pipeline, features: Extracted) -> list[Tensor]:
    """What the network makes of a bundle before anything is chosen: each modality's steps, and what is fused."""
    encoded = pipeline.network.encode(pipeline.padded([features]))
    return [*(output.sequence.cpu() for output in encoded.outputs.values()), encoded.fusion.fused.cpu()]


def apart(found: Tensor, expected: Tensor) -> float:
    """Relative to what is expected."""
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
@pytest.mark.parametrize(("runtime", "tolerance"), [("torch", 1e-4), ("auto", 1e-4), ("bf16", 0.2)])
def test_a_device_encodes_as_the_cpu_does(folder: Path, runtime: Any, tolerance: float) -> None:
    here, there = Pipeline.load(folder, "cpu", "torch"), Pipeline.load(folder, "cuda", runtime)
    features = made(here)
    for expected, found in zip(encodings(here, features), encodings(there, features), strict=True):
        assert apart(found, expected) <= tolerance


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
@pytest.mark.parametrize("runtime", ["torch", "auto"])  # rounded to bfloat16, a caption may take another word
def test_a_device_answers_as_the_cpu_does(folder: Path, runtime: Any) -> None:
    here, there = Pipeline.load(folder, "cpu", "torch"), Pipeline.load(folder, "cuda", runtime)
    features = made(here)
    expected = here.predict(features, here.options()).model_dump(exclude_none=True)
    found = there.predict(features, there.options()).model_dump(exclude_none=True)
    assert found.keys() == expected.keys()
    assert numbers(found) == pytest.approx(numbers(expected), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_a_batch_on_a_device_answers_as_one_by_one(folder: Path) -> None:
    pipeline = Pipeline.load(folder, "cuda", "auto")
    query = Query(made(pipeline), pipeline.options())
    (single,) = pipeline.predict_batch([query])
    for answer in pipeline.predict_batch([query] * 5):
        assert numbers(answer.model_dump()) == pytest.approx(numbers(single.model_dump()), rel=1e-3, abs=1e-3)
