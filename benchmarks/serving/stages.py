"""Where a workload's processor time goes: decoding, features, and the network alone and in batches of like lengths.

In a process of its own on the server's cores, as the limit is measured.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks.serving.journal import Record
from benchmarks.serving.limit import alone
from benchmarks.serving.peers.work import Work
from benchmarks.serving.workloads import Workload

T = TypeVar("T")
BATCHES = (1, 4, 16)


def stages(workload: Workload, folder: Path, *, runtime: str, cores: Sequence[int]) -> Record:
    """Processor seconds an item: ``decode``, ``features``, and ``network`` by the rows of a batch."""
    found: Record = json.loads(alone("benchmarks.serving.stages", workload, folder, runtime=runtime, cores=cores))
    return found


def _stages(pool: Sequence[bytes]) -> Record:
    work = Work()
    for data in pool[: max(BATCHES)]:
        work.answer([work.prepare(data)])
    spent = {"decode": 0.0, "features": 0.0}
    prepared = []
    for data in pool:
        seconds, decoded = _timed(partial(work.pipeline.decode, {work.part: data}))
        spent["decode"] += seconds
        seconds, features = _timed(partial(work.pipeline.features, decoded))
        spent["features"] += seconds
        prepared.append(features)
    prepared.sort(key=lambda features: sum(features.lengths.values()))
    network = {}
    for rows in BATCHES:
        batches = [prepared[start : start + rows] for start in range(0, len(prepared), rows)]
        # The first time a size comes, its kernels are planned.
        network[str(rows)] = min(sum(_timed(partial(work.answer, batch))[0] for batch in batches) for _ in range(2))
    count = len(pool)
    return {
        **{name: seconds / count for name, seconds in spent.items()},
        "network": {rows: seconds / count for rows, seconds in network.items()},
    }


def _timed(call: Callable[[], T]) -> tuple[float, T]:
    began = time.process_time()
    result = call()
    return time.process_time() - began, result


if __name__ == "__main__":
    print(json.dumps(_stages([path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())])))
