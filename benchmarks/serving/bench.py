"""A run of the benchmark: which server is measured how, and what the journal already has."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from benchmarks.serving.comparison import OURS, RIVALS, RUNTIMES, figure
from benchmarks.serving.endurance import memory, overload
from benchmarks.serving.goodput import Effort, capacity, found, goodput
from benchmarks.serving.journal import Journal, Record
from benchmarks.serving.lengths import LADDERS, Ladder, seconds_by_length
from benchmarks.serving.limit import limit
from benchmarks.serving.servers import SERVERS, Running, Server, ServerFault, running
from benchmarks.serving.stages import stages
from benchmarks.serving.stepwise import captions
from benchmarks.serving.workloads import WORKLOADS, ZOO, Workload

_BATCHES = (1, 8)
BEHIND = 0.7
"""Share of the best goodput of the first round; who is below it is not measured again."""

_MIXED, _FIRST = 20_000, 2_000
_BEARABLE = 0.85
"""Of what a server answers at most, where the search for its goodput begins."""

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
            key = {"kind": "goodput", "workload": workload.name, "server": server.name, "runtime": runtime}
            if found(self.journal, key | {"round": round_}, self.effort):
                return
            with self.lazily(server, workload, runtime, batch) as get:
                before = figure(self.journal, workload, server.name, runtime) if round_ else None
                if before is not None and before.rounds[0]:
                    guess = before.rounds[0]
                else:
                    guess = _BEARABLE * self.capacity(server, workload, runtime, batch, get)
                goodput(self.journal, key | {"round": round_}, get, workload, guess, self.effort)
        except ServerFault as fault:
            self.absent[server.name] = str(fault)

    def wanted(self, server: Server, workload: Workload, runtime: str, round_: int) -> bool:
        """Whether the comparison needs it: ours always, others on torch's kernels.

        After the first round only those that a target is set against, and that are not far behind.
        """
        if server.name == OURS:
            return True
        if runtime != "torch":
            return False
        if not round_:
            return True
        rivals = {name: figure(self.journal, workload, name, runtime) for name in RIVALS}
        first = {name: one.rounds[0] for name, one in rivals.items() if one}
        return first.get(server.name, 0.0) >= BEHIND * max(first.values(), default=0.0) > 0

    def _batch(self, server: Server, workload: Workload) -> int:
        """The largest batch with which the server does best: each is tried, on torch's own kernels."""
        if not server.batches:
            return 1
        if not self.effort.tunes:
            return _BATCHES[-1]

        def tune() -> Record:
            rates: dict[int, float] = {}
            for batch in _BATCHES:
                with self.lazily(server, workload, "torch", batch) as get:
                    rates[batch] = self.capacity(server, workload, "torch", batch, get)
            return {"batch": max(rates, key=lambda batch: rates[batch]), "tried": list(rates.items())}

        key = {"kind": "batch", "workload": workload.name, "server": server.name}
        return int(self.journal.get(key, tune)["batch"])

    def capacity(
        self, server: Server, workload: Workload, runtime: str, batch: int, get: Callable[[], Running]
    ) -> float:
        """What a server answers a second at most."""
        key = {"kind": "capacity", "workload": workload.name, "server": server.name, "runtime": runtime, "batch": batch}
        return float(self.journal.get(key, lambda: capacity(get()))["rate"])

    def stages(self, workload: Workload) -> None:
        """Where the processor time goes, on either runtime."""
        workload.pool(self.media)
        folder = workload.folder(self.media)
        for runtime in RUNTIMES:
            key = {"kind": "stages", "workload": workload.name, "runtime": runtime}
            self.journal.get(key, partial(stages, workload, folder, runtime=runtime, cores=self.cores))

    def overload(self, workload: Workload) -> None:
        """Twice the goodput, where there is one."""
        measured = [(runtime, figure(self.journal, workload, OURS, runtime)) for runtime in reversed(RUNTIMES)]
        runtime, best = next(((runtime, one) for runtime, one in measured if one), ("", None))
        if best is not None and best.median:
            key = {"kind": "overload", "workload": workload.name}
            with self.lazily(_OURS, workload, runtime, 1) as get:
                self.journal.get(key, lambda: overload(get(), workload, best.median, self.effort))

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
        """Captions step by step and in padded batches, on the kernels that are served with."""
        _PHOTOS.pool(self.media)
        key = {"kind": "stepwise", "runtime": "auto"}
        self.journal.get(key, partial(captions, _PHOTOS.folder(self.media), "auto", self.cores))


def _length(get: Callable[[], Running], ladder: Ladder, repeats: int) -> Record:
    return seconds_by_length(get(), ladder, repeats)
