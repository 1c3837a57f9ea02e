"""BentoML: a service whose API is batchable, with adaptive batching."""

from pathlib import Path
from typing import Any

import bentoml

from benchmarks.serving.peers.work import Work, batch


@bentoml.service(workers=1, traffic={"timeout": 120, "max_concurrency": 1000})
class Predictor:
    """Answers with one call for each batch."""

    def __init__(self) -> None:
        self.work = Work()

    @bentoml.api(batchable=True, max_batch_size=batch, max_latency_ms=60_000)
    def predict(self, file: list[Path]) -> list[dict[str, Any]]:
        """Decode and answer the posted files."""
        return self.work.answer([self.work.prepare(path.read_bytes()) for path in file])
