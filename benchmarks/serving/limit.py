"""The limit: the same work in a tight loop, without HTTP, in a process of its own on the server's cores."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.journal import Record
from benchmarks.serving.peers.work import BATCH, MODEL, PART, RUNTIME, Work
from benchmarks.serving.servers import ROOT
from benchmarks.serving.workloads import Workload


def limit(workload: Workload, folder: Path, *, runtime: str, seconds: float, cores: Sequence[int]) -> Record:
    """Requests a second, of the pool's items in turn, each decoded and answered before the next begins."""
    found: Record = json.loads(alone(__name__, workload, folder, str(seconds), runtime=runtime, cores=cores))
    return found


def alone(module: str, workload: Workload, folder: Path, *more: str, runtime: str, cores: Sequence[int]) -> str:
    """What ``module`` prints, run as a program on these cores over the items in ``folder``."""
    environment = {
        **os.environ, MODEL: workload.model, PART: workload.part, RUNTIME: runtime, BATCH: "1",
        "OMP_NUM_THREADS": str(len(cores)),
    }  # fmt: skip
    command = [sys.executable, "-m", module, str(folder), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True) as process:  # noqa: S603  our own
        os.sched_setaffinity(process.pid, cores)
        assert process.stdout is not None
        return process.stdout.read()


def _loop(pool: Sequence[bytes], seconds: float) -> Record:
    work = Work()
    rounds, began = 0, time.perf_counter()
    # Whole rounds, so that every item weighs the same.
    while not rounds or time.perf_counter() - began < seconds:
        for data in pool:
            json.dumps(work.answer([work.prepare(data)])[0])
        rounds += 1
    return {"rate": rounds * len(pool) / (time.perf_counter() - began), "requests": rounds * len(pool)}


if __name__ == "__main__":
    items = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
    print(json.dumps(_loop(items, float(sys.argv[2]))))
