"""Shipped checkpoints on a CUDA device, where there is one: the answers of the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

import models
from models.pipeline import Pipeline
from models.tasks.task import Query

ZOO = sorted(path.parent for path in (Path(next(iter(models.__path__))) / "zoo").glob("*/config.json"))
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def numbers(value: Any) -> list[float]:
    """All numbers of an answer, in order."""
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
@pytest.mark.parametrize(("runtime", "tolerance"), [("torch", 1e-3), ("auto", 1e-3), ("bf16", 0.2)])
def test_a_device_answers_as_the_cpu_does(folder: Path, runtime: Any, tolerance: float) -> None:
    here, there = Pipeline.load(folder, "cpu", "torch"), Pipeline.load(folder, "cuda", runtime)
    features = here.blank()
    expected = here.predict(features, here.options()).model_dump(exclude_none=True)
    found = there.predict(features, there.options()).model_dump(exclude_none=True)
    assert found.keys() == expected.keys()
    if runtime != "bf16":
        # Rounded, a caption may take another word.
        assert numbers(found) == pytest.approx(numbers(expected), rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_a_batch_on_a_device_answers_as_one_by_one(folder: Path) -> None:
    pipeline = Pipeline.load(folder, "cuda", "auto")
    query = Query(pipeline.blank(), pipeline.options())
    (single,) = pipeline.predict_batch([query])
    for answer in pipeline.predict_batch([query] * 5):
        assert numbers(answer.model_dump()) == pytest.approx(numbers(single.model_dump()), rel=1e-3, abs=1e-3)
