"""What every peer serves: the decoding, the features and the network that fusionrnn uses itself."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import torch

import models
from models.features import Extracted, Modality
from models.pipeline import Pipeline
from models.runtime import RuntimeName
from models.tasks.task import Query

MODEL, PART, RUNTIME, BATCH, PORT = "BENCH_MODEL", "BENCH_PART", "BENCH_RUNTIME", "BENCH_BATCH", "BENCH_PORT"
"""The environment variables by which the benchmark tells a peer what to serve."""

FIELD = "file"
"""The part of a form that holds the medium."""

batch = int(os.environ.get(BATCH, "1"))
port = int(os.environ.get(PORT, "0"))


class Work:
    """One checkpoint, loaded and warmed up; ``prepare`` in any thread, ``answer`` in one at a time."""

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        part = os.environ[PART]
        assert part in get_args(Modality)
        self.part = cast("Modality", part)
        self.pipeline = load(os.environ[MODEL], os.environ[RUNTIME])
        self.options = self.pipeline.options()
        self.pipeline.warm_up()

    def prepare(self, data: bytes) -> Extracted:
        """A medium's bytes to the tensors that the network reads."""
        return self.pipeline.features(self.pipeline.decode({self.part: data}))

    def answer(self, batch: Sequence[Extracted]) -> list[dict[str, Any]]:
        """The answers as JSON has them, of one padded batch."""
        results = self.pipeline.predict_batch([Query(features, self.options) for features in batch])
        return [result.model_dump(exclude_none=True) for result in results]


def load(model: str, runtime: str) -> Pipeline:
    """A shipped checkpoint on the named runtime."""
    assert runtime in get_args(RuntimeName)
    return Pipeline.load(Path(next(iter(models.__path__))) / "zoo" / model, runtime=cast("RuntimeName", runtime))
