"""BentoML: a service whose API is batchable, with adaptive batching; without, where a batch of one is asked for."""

from pathlib import Path
from typing import Any

import bentoml

from benchmarks.serving.peers.work import Work, batch


class _Worker:
    def __init__(self) -> None:
        self.work = Work()

    def answers(self, files: list[Path]) -> list[dict[str, Any]]:
        """Decode and answer the posted files."""
        return self.work.answer([self.work.prepare(path.read_bytes()) for path in files])


_service = bentoml.service(workers=1, traffic={"timeout": 120, "max_concurrency": 1000})

if batch > 1:

    @_service
    class Predictor(_Worker):
        """Answers with one call for each batch."""

        @bentoml.api(batchable=True, max_batch_size=batch, max_latency_ms=60_000)
        def predict(self, file: list[Path]) -> list[dict[str, Any]]:
            """One batch."""
            return self.answers(file)

else:

    @_service
    class Predictor(_Worker):  # type: ignore[no-redef]
        """Answers one by one: a batchable API must hold two or more."""

        @bentoml.api
        def predict(self, file: Path) -> dict[str, Any]:
            """One file."""
            return self.answers([file])[0]
