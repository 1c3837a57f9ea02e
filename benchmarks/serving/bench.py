"""A run of the benchmark: which server is measured how, and what the journal already has."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from benchmarks.serving.comparison import OURS, RUNTIMES, figure
from benchmarks.serving.endurance import memory, overload
from benchmarks.serving.goodput import Effort, goodput
from benchmarks.serving.journal import Journal, Record
from benchmarks.serving.lengths import LADDERS, Ladder, seconds_by_length
from benchmarks.serving.limit import limit
from benchmarks.serving.servers import SERVERS, Running, Server, ServerFault, running
from benchmarks.serving.stepwise import captions
from benchmarks.serving.workloads import WORKLOADS, ZOO, Workload

_BATCHES = (1, 8)
_TUNING, _NEAR = 99, 0.16
"""The round in which batch sizes are tried, of its own seed, and to within which share their goodputs are found."""

BEHIND = 0.7
"""Share of the best goodput of the first round; who is below it is not measured again."""

_MIXED, _FIRST = 20_000, 2_000
_SHARE_OF_LOOP = 0.7
(_OURS,) = (server for server in SERVERS if server.name == OURS)
# With all checkpoints, and for half an hour of sound, where the default is ten minutes.
_WHOLE = replace(
    _OURS,
    environment={**_OURS.environment, "FUSIONRNN_MODEL_DIR": str(ZOO), "FUSIONRNN_LIMITS__AUDIO_SECONDS": "1800"},
)
(_PHOTOS,) = (workload for workload in WORKLOADS if workload.part == "image")


class Bench:
    """What is measured, on which cores, into which journal; ``absent`` says why a server has no figures."""

    def __init__(self, folder: Path, effort: Effort, cores: Sequence[int]) -> None:
        self.journal = Journal(folder / "journal.jsonl")
        self.media = folder / "media"
        self.effort = effort
        self.cores = cores
        self.absent: dict[str, str] = {}

    @contextmanager
    def lazily(self, server: Server, workload: Workload, runtime: str, batch: int) -> Iterator[Callable[[], Running]]:
        """A server that starts when it is asked for: not at all where the journal has everything."""
        with ExitStack() as stack:

            @cache
            def get() -> Running:
                pool = workload.pool(self.media)
                started = running(server, workload, pool, runtime=runtime, batch=batch, cores=self.cores)
                return stack.enter_context(started)

            yield get

    def limit(self, workload: Workload, runtime: str, round_: int) -> float:
        """The rate of the loop without HTTP, in requests a second."""
        workload.pool(self.media)
        folder, seconds = workload.folder(self.media), self.effort.shortest
        key = {"kind": "limit", "workload": workload.name, "runtime": runtime, "round": round_}
        loop = partial(limit, workload, folder, runtime=runtime, seconds=seconds, cores=self.cores)
        return float(self.journal.get(key, loop)["rate"])

    def goodput(self, server: Server, workload: Workload, runtime: str, round_: int) -> None:
        """One round of a server's goodput; where it cannot be had, the reason is kept."""
        if server.name in self.absent:
            return
        try:
            batch = self._batch(server, workload)
            like = server.name if round_ else OURS if server.name != OURS else None
            guess = self._guess(workload, runtime, like)
            key = {"kind": "goodput", "workload": workload.name, "server": server.name, "runtime": runtime}
            with self.lazily(server, workload, runtime, batch) as get:
                goodput(self.journal, key | {"round": round_}, get, workload, guess, self.effort)
        except ServerFault as fault:
            self.absent[server.name] = str(fault)

    def wanted(self, server: Server, workload: Workload, runtime: str, round_: int) -> bool:
        """Whether the comparison needs it: ours always, others on torch's kernels and while they are not far behind."""
        if server.name == OURS:
            return True
        if runtime != "torch" or not round_:
            return runtime == "torch"
        found = {each.name: figure(self.journal, workload, each.name, runtime) for each in SERVERS}
        first = {name: one.rounds[0] for name, one in found.items() if one}
        return first.get(server.name, 0.0) >= BEHIND * max(first.values(), default=0.0)

    def _batch(self, server: Server, workload: Workload) -> int:
        """The largest batch with which the server does best: each is tried, on torch's own kernels."""
        if not server.batches:
            return 1
        if not self.effort.tunes:
            return _BATCHES[-1]

        def tune() -> Record:
            rates: dict[int, float] = {}
            # Where two sizes are as near as that, either will do.
            effort = replace(self.effort, requests=self.effort.requests // 2, tolerance=_NEAR)
            guess = self._guess(workload, "torch", OURS)
            for batch in _BATCHES:
                key = {"kind": "tuning", "workload": workload.name, "server": server.name, "batch": batch}
                with self.lazily(server, workload, "torch", batch) as get:
                    rates[batch] = goodput(self.journal, key | {"round": _TUNING}, get, workload, guess, effort)
            return {"batch": max(rates, key=lambda batch: rates[batch]), "tried": list(rates.items())}

        key = {"kind": "batch", "workload": workload.name, "server": server.name}
        return int(self.journal.get(key, tune)["batch"])

    def _guess(self, workload: Workload, runtime: str, like: str | None) -> float:
        """Where to begin: what the first round found for the server ``like``, else a share of the loop's rate."""
        found = figure(self.journal, workload, like, runtime) if like else None
        return found.rounds[0] if found and found.rounds[0] else _SHARE_OF_LOOP * self.limit(workload, runtime, 0)

    def overload(self, workload: Workload) -> None:
        """Twice the goodput, where there is one."""
        measured = [(runtime, figure(self.journal, workload, OURS, runtime)) for runtime in reversed(RUNTIMES)]
        runtime, found = next(((runtime, found) for runtime, found in measured if found), ("", None))
        if found is not None and found.median:
            key = {"kind": "overload", "workload": workload.name}
            with self.lazily(_OURS, workload, runtime, 1) as get:
                self.journal.get(key, lambda: overload(get(), workload, found.median, self.effort))

    def lengths(self, repeats: int) -> None:
        """Cost by length, of every ladder."""
        with self.lazily(_WHOLE, _PHOTOS, "auto", 1) as get:
            for ladder in LADDERS:
                key = {"kind": "length", "model": ladder.model, "unit": ladder.unit}
                self.journal.get(key, partial(_length, get, ladder, repeats))

    def memory(self) -> None:
        """Memory under requests of all kinds."""
        with self.lazily(_WHOLE, _PHOTOS, "auto", 1) as get:
            self.journal.get({"kind": "memory"}, lambda: memory(get(), self.media, _MIXED, first=_FIRST))

    def stepwise(self) -> None:
        """Captions step by step and in padded batches."""
        _PHOTOS.pool(self.media)
        for runtime in RUNTIMES:
            key = {"kind": "stepwise", "runtime": runtime}
            self.journal.get(key, partial(captions, _PHOTOS.folder(self.media), runtime, self.cores))


def _length(get: Callable[[], Running], ladder: Ladder, repeats: int) -> Record:
    return seconds_by_length(get(), ladder, repeats)
