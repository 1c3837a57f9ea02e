"""Captions: rows that join and leave between two steps, against batches that end when their longest row does.

Padded batches are rectangles, as most servers compute them: each row is as wide as the widest beam and goes on to the
batch's end. In batches that thin out, the stronger rival, rows are as wide as they asked for and are computed no longer
than they need, but nobody joins before the batch has ended.

No HTTP here: both sides get the same photos, already features, at the same moments, on one thread each, and differ in
nothing but who is computed with whom. Run as ``python -m benchmarks.serving.stepwise``; pinned by its caller.
"""

import argparse
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from app.engine.batcher import Lane
from app.engine.device import Device, Search
from app.engine.warmup import most_steps
from benchmarks.serving.client import arrivals
from benchmarks.serving.journal import Record
from benchmarks.serving.peers.work import load as load_pipeline
from models.decoding.decoder import StepCall
from models.heads.captioning import CaptionMemory
from models.pipeline import Pipeline
from models.tasks.task import Query

Submit = Callable[[Query], "Future[Any]"]
_MOST_ROWS = 16
_JOIN_SECONDS = 5.0
_WIDTHS = ((1, 0.2), (3, 0.6), (5, 0.2))
"""Beam sizes that clients ask for, with their shares."""

_LENGTHS = ((8, 0.3), (20, 0.5), (40, 0.2))
"""Most words that they ask for."""


class Batches:
    """One thread that takes what waits, at most ``_MOST_ROWS``, and answers all of it before it takes more."""

    def __init__(self, answer: Callable[[list[Query]], Sequence[Any]]) -> None:
        self._answer = answer
        self._waiting: queue.SimpleQueue[tuple[Query, Future[Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, query: Query) -> "Future[Any]":
        """Answer a query with a batch."""
        future: Future[Any] = Future()
        self._waiting.put((query, future))
        return future

    def close(self) -> None:
        """Let the thread end."""
        self._waiting.put(None)

    def _run(self) -> None:
        torch.set_num_threads(1)
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < _MOST_ROWS and not self._waiting.empty():
                if (item := self._waiting.get()) is not None:
                    batch.append(item)
            results = self._answer([query for query, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                future.set_result(result)


def _rectangle(pipeline: Pipeline, queries: list[Query]) -> list[Any]:
    """Answers of one padded batch: a row that is done is computed on, to the end of the longest."""
    searches = pipeline.searches(queries)
    decoder = pipeline.decoder()
    assert decoder is not None
    results: list[Any] = [None] * len(searches)
    with torch.inference_mode():
        calls = [cast(StepCall, next(search)) for search in searches]
        memories: list[CaptionMemory] = [call.memory for call in calls]
        memory = CaptionMemory(*(torch.cat([getattr(m, name) for m in memories]) for name in CaptionMemory.__slots__))
        width = max(call.tokens.shape[1] for call in calls)
        while None in results:
            state = {name: torch.cat([_widened(call.state[name], width) for call in calls]) for name in calls[0].state}
            tokens = torch.cat([_widened(call.tokens, width) for call in calls])
            scores, state, weights = decoder.step(tokens, state, memory)
            for row, search in enumerate(searches):
                columns = slice(calls[row].tokens.shape[1])
                after = {name: value[row : row + 1, columns] for name, value in state.items()}
                if results[row] is None:
                    try:
                        answer = (scores[row : row + 1, columns], after, weights[row : row + 1, columns])
                        calls[row] = cast(StepCall, search.send(answer))
                    except StopIteration as stop:
                        results[row] = stop.value
    return results


def _widened(value: torch.Tensor, width: int) -> torch.Tensor:
    missing = width - value.shape[1]
    return torch.nn.functional.pad(value, (*(0, 0) * (value.ndim - 2), 0, missing))


def _stepwise(device: Device, pipeline: Pipeline) -> Submit:
    decoder = pipeline.decoder()
    assert decoder is not None
    lane = Lane("captions", most_steps(pipeline, lambda work: device.submit(work).result()))

    def submit(query: Query) -> "Future[Any]":
        lengths = query.features.lengths
        return device.put(Search(lane, pipeline.searches, query, lengths, decoder=decoder, tell=lambda _: None))

    return submit


def _measure(submit: Submit, queries: Sequence[Query], rate: float, seconds: float) -> dict[str, float]:
    """Latencies at a rate of Poisson arrivals, and answers a second from the first arrival to the last answer."""
    times = arrivals(rate, seconds, seed=3)
    took: list[float] = []
    start = time.perf_counter()
    futures = []
    for number, due in enumerate(times):
        time.sleep(max(start + due - time.perf_counter(), 0))
        future = submit(queries[number % len(queries)])
        future.add_done_callback(lambda _, due=due: took.append(time.perf_counter() - start - due))  # type: ignore[misc]
        futures.append(future)
    for future in futures:
        future.result()
    elapsed = time.perf_counter() - start
    return {
        "rate": rate, "p50": float(np.quantile(took, 0.5)), "p90": float(np.quantile(took, 0.9)),
        "p99": float(np.quantile(took, 0.99)), "throughput": len(times) / elapsed,
    }  # fmt: skip


def _queries(pipeline: Pipeline, folder: Path) -> list[Query]:
    rng = np.random.default_rng(0)
    bundles = [path.read_bytes() for path in sorted(folder.iterdir())]
    features = [pipeline.features(pipeline.decode({"image": data})) for data in bundles]

    def option(choices: tuple[tuple[int, float], ...]) -> int:
        return int(rng.choice([value for value, _ in choices], p=[share for _, share in choices]))

    return [
        Query(
            features[index % len(features)],
            pipeline.options.model_validate(
                {
                    "beam_size": option(_WIDTHS),
                    "max_length": option(_LENGTHS),
                    "language": str(rng.choice(["en", "zh"])),
                }
            ),
        )
        for index in range(4 * len(features))
    ]


def captions(photos: Path, runtime: str, cores: Sequence[int]) -> Record:
    """What a process of its own, on these cores, prints."""
    command = [sys.executable, "-m", "benchmarks.serving.stepwise", "--photos", str(photos), "--runtime", runtime]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:  # noqa: S603  our own command
        os.sched_setaffinity(process.pid, cores)
        assert process.stdout is not None
        return {"lines": [json.loads(line) for line in process.stdout]}


def main() -> None:
    """Print one JSON object a load: shares of what padded batches sustain."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--photos", type=Path, required=True)
    arguments.add_argument("--runtime", default="torch")
    arguments.add_argument("--seconds", type=float, default=30.0)
    chosen = arguments.parse_args()
    pipeline = load_pipeline("captioner", chosen.runtime)
    torch.set_num_threads(1)
    queries = _queries(pipeline, chosen.photos)
    device = Device("captions", 1)
    batches = {"padded": Batches(partial(_rectangle, pipeline)), "thinning": Batches(pipeline.predict_batch)}
    sides: dict[str, Submit] = {"stepwise": _stepwise(device, pipeline)}
    sides |= {name: side.submit for name, side in batches.items()}
    # Kernels are planned at the first batch of each size, for whoever comes first.
    for submit in sides.values():
        _measure(submit, queries, 1e4, len(queries) / 1e4)
    # Everything at once: what each can do at most.
    most = {name: _measure(submit, queries, 1e4, len(queries) / 1e4)["throughput"] for name, submit in sides.items()}
    print(json.dumps({"most": most}), flush=True)
    for share in (0.5, 0.7, 0.85, 0.95):
        rate = share * most["padded"]
        found = {name: _measure(submit, queries, rate, chosen.seconds) for name, submit in sides.items()}
        print(json.dumps({"share": share, **found}), flush=True)
    for side in batches.values():
        side.close()
    device.close()
    # torch's threads must not outlive the interpreter.
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)


if __name__ == "__main__":
    main()
