"""What load does to the service: at twice what it sustains, and over twenty thousand requests of all kinds."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.serving.client import Post, in_turn, load, within
from benchmarks.serving.goodput import Effort, summary
from benchmarks.serving.journal import Record
from benchmarks.serving.servers import SERVERS, Running
from benchmarks.serving.workloads import WORKLOADS, Workload

_CLIENTS = 8
_PATIENCE = 120.0
REST_SECONDS = 75
"""After which the service has given back what it keeps for the next request."""

_SHARES: Mapping[str, float] = {"w1": 0.06, "w2 events": 0.12, "w2 commands": 0.2, "w3": 0.6, "w4": 0.02}
"""Of the mixed requests: more of what takes less, so that each kind keeps the machine about as busy."""


def overload(running: Running, workload: Workload, sustained: float, effort: Effort) -> Record:
    """A run at twice the sustained rate, of clients that wait for the objective and say so.

    Whatever comes is waited for, so what is neither answered, refused nor given up was lost.
    """
    running.settle()
    posts = [within(post, workload.objective) for post in running.posts]
    # Long beside the objective: at its begin and end the queue is not yet, or no longer, what it is in between.
    seconds = max(2 * effort.shortest, 5 * workload.objective)
    run = load(running.url, posts, 2 * sustained, seconds, seed=7, patience=_PATIENCE)
    return summary(run, workload.objective) | {"sustained": sustained}


def memory(running: Running, folder: Path, requests: int, *, first: int) -> Record:
    """Bytes of the server after each ``first`` of the mixed ``requests``, and at rest after the first and the last."""
    posts = _mixed(folder, requests)
    marks, rest, failed = [], [], 0
    for start in range(0, requests, first):
        outcomes = in_turn(running.url, posts[start : start + first], _CLIENTS, _PATIENCE)
        failed += sum(outcome.status != 200 for outcome in outcomes)
        marks.append(running.usage().memory)
        if start in (0, requests - first):
            time.sleep(REST_SECONDS)
            rest.append(running.usage().memory)
    return {"requests": requests, "first": first, "marks": marks, "rest": rest, "failed": failed}


def _mixed(folder: Path, requests: int, seed: int = 0) -> Sequence[Post]:
    (ours,) = (server for server in SERVERS if server.name == "fusionrnn")
    served = [workload for workload in WORKLOADS if workload.shipped]
    shares = np.array([_SHARES[workload.name] for workload in served])
    rng = np.random.default_rng(seed)
    pools = [[ours.route(workload, data) for data in workload.pool(folder)] for workload in served]
    kinds = rng.choice(len(served), size=requests, p=shares / shares.sum())
    return [pools[kind][rng.integers(len(pools[kind]))] for kind in kinds]
