"""Time and output of the shipped checkpoints on faster kernels, beside torch's own.

``python -m benchmarks.runtime`` prints a Markdown table; ``--data FOLDER --model NAME`` measures the figures of one
checkpoint on the validation part of a data set instead, on each runtime.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.settings import ZOO

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.runtime import RuntimeName
    from models.tasks.task import Query

RUNTIMES: "tuple[RuntimeName, ...]" = ("torch", "packed", "bf16")
ROWS = (1, 8)
STEPS = {"image": 1, "text": 24, "audio": 100, "video": 75}
"""A photo, a sentence, a second of sound, three of video."""


def main() -> None:
    """Print the table, or the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--seconds", type=float, default=1.0, help="about how long each cell is measured")
    arguments.add_argument("--data", type=Path, help="folder of a data set, to measure figures on")
    arguments.add_argument("--model", action="append", help="only this checkpoint; may be given again")
    arguments.add_argument("--examples", type=int, default=1000, help="most examples that figures are measured on")
    chosen = arguments.parse_args()
    names = chosen.model or sorted(path.parent.name for path in ZOO.glob("*/config.json"))
    lines = (
        _figures(names, chosen.data, chosen.examples, chosen.threads)
        if chosen.data
        else _times(names, chosen.threads, chosen.seconds)
    )
    for line in lines:
        print(line, flush=True)


def _times(names: Sequence[str], threads: int, seconds: float) -> Iterator[str]:
    """Each runtime in a process of its own, since a process's memory settings are part of it; measured in turn."""
    others = [f"{name}, ms | times as fast | difference" for name in RUNTIMES[1:]]
    yield f"| checkpoint | rows | torch, ms | {' | '.join(others)} |"
    yield "|---|" + "---:|" * (2 + 3 * len(others))
    for name in names:
        with ExitStack() as open_sides:
            sides = [open_sides.enter_context(_side(name, runtime, threads)) for runtime in RUNTIMES]
            for rows in ROWS:
                yield _row(name, rows, sides, seconds)


def _row(name: str, rows: int, sides: "Sequence[_Side]", seconds: float) -> str:
    outputs = [side.ask(rows) for side in sides]
    for _ in range(3):
        for side in sides:
            side.ask(None)
    turns = min(500, max(7, round(seconds / sides[0].ask(None))))
    taken = [[side.ask(None) for side in sides] for _ in range(turns)]
    medians = [1e3 * statistics.median(column) for column in zip(*taken, strict=True)]
    cells = [f"{medians[0]:.3g}"]
    for index in range(1, len(sides)):
        ratio = statistics.median(turn[0] / turn[index] for turn in taken)
        cells += [f"{medians[index]:.3g}", f"{ratio:.2f}", f"{_difference(outputs[index], outputs[0]):.0e}"]
    return f"| {name} | {rows} | {' | '.join(cells)} |"


def _difference(given: list[float], expected: list[float]) -> float:
    """The largest, relative to the largest number."""
    return max(abs(a - b) for a, b in zip(given, expected, strict=True)) / max(map(abs, expected))


@dataclass(frozen=True, slots=True)
class _Side:
    """A process with a pipeline on one runtime.

    Asked for a number of rows it makes up a batch of them and returns its fused vectors; asked for None, the seconds
    that the answers to it took.
    """

    connection: Connection

    def ask(self, rows: int | None) -> Any:
        self.connection.send(rows)
        return self.connection.recv()


@contextmanager
def _side(name: str, runtime: "RuntimeName", threads: int) -> "Iterator[_Side]":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, name, runtime, threads), daemon=True)
    process.start()
    there.close()
    try:
        yield _Side(here)
    finally:
        here.close()
        process.join()


def _serve(connection: Connection, name: str, runtime: "RuntimeName", threads: int) -> None:
    pipeline = _load(name, runtime, threads)
    # Of one thread it is the processor's time that counts, which other processes do not lengthen.
    clock = time.process_time if threads == 1 else time.perf_counter
    queries: list[Query] = []
    while True:
        try:
            rows = connection.recv()
        except EOFError:
            return
        if rows is None:
            started = clock()
            pipeline.predict_batch(queries)
            connection.send(clock() - started)
        else:
            queries = [_made_up(pipeline, seed) for seed in range(rows)]
            connection.send(_fused(pipeline, queries))


def _load(name: str, runtime: "RuntimeName", threads: int) -> "Pipeline":
    import torch

    from models.pipeline import Pipeline

    torch.set_num_threads(threads)
    return Pipeline.load(ZOO / name, "cpu", runtime)


def _made_up(pipeline: "Pipeline", seed: int) -> "Query":
    """Noise with every modality."""
    import torch

    from models.features import Extracted
    from models.tasks.task import Query

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, like in pipeline.blank().tensors.items():
        shape = (STEPS[name], *like.shape[1:])
        if like.is_floating_point():
            tensors[name] = torch.randn(shape, generator=generator)
        else:
            tensors[name] = torch.randint(0, int(like.max()) + 1, shape, generator=generator).to(like.dtype)
    return Query(Extracted(tensors), pipeline.options())


def _fused(pipeline: "Pipeline", queries: "list[Query]") -> list[float]:
    import torch

    from models.sequence import pad

    rows = [query.features.tensors for query in queries]
    with torch.inference_mode():
        encoded = pipeline.network.encode({name: pad([tensors[name] for tensors in rows]) for name in rows[0]})
    values: list[float] = encoded.fusion.fused.flatten().tolist()
    return values


def _figures(names: Sequence[str], data: Path, most: int, threads: int) -> Iterator[str]:
    """The figures of checkpoints on the same examples, a runtime a column."""
    from models.training.evaluation import measure, read_examples

    yield f"| checkpoint | figure | {' | '.join(RUNTIMES)} |"
    yield "|---|---|" + "---:|" * len(RUNTIMES)
    for name in names:
        columns = []
        for runtime in RUNTIMES:
            pipeline = _load(name, runtime, threads)
            split = read_examples(pipeline, data, "val", (pipeline.metrics or {}).get("target"))
            figures = measure(pipeline, replace(split, examples=split.examples[:most]))["figures"]
            columns.append(dict(_flat(figures)))
        for figure, value in columns[0].items():
            yield f"| {name} | {figure} | {value:.4g} | {' | '.join(f'{c[figure]:.4g}' for c in columns[1:])} |"


def _flat(figures: dict[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Figures by their path; of one with an interval, the figure."""
    for name, value in figures.items():
        path = f"{before}{name}".replace("_", " ")
        if isinstance(value, dict):
            yield from _flat(value, f"{path}, ")
        elif isinstance(value, list) and value and isinstance(value[0], int | float):
            yield path, value[0]
        elif isinstance(value, int | float):
            yield path, value


if __name__ == "__main__":
    main()
