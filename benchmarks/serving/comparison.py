"""What the page says of the servers beside one another: a table a workload, and the ratios."""

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.goodput import holds
from benchmarks.serving.journal import Journal, Record
from benchmarks.serving.pictures import draw_curves
from benchmarks.serving.servers import SERVERS
from benchmarks.serving.stages import BATCHES
from benchmarks.serving.workloads import Workload

OURS = "fusionrnn"
RIVALS = ("litserve", "bentoml", "ray", "fastapi")
"""Those whose best the targets are set against."""

RUNTIMES = {"torch": "torch's own kernels", "auto": "the kernels that fusionrnn chooses by itself"}
_COLUMNS = (
    "goodput, req/s", "of the loop", "p50, ms", "p95, ms", "p99, ms", "CPU ms a request", "memory, MB", "failed",
)  # fmt: skip
_RATIOS = (
    "same runtime: torch", "same runtime: fusionrnn's", "each at its best", "over Mosec, torch", "of the loop, torch",
    "of the loop, fusionrnn's",
)  # fmt: skip
_STAGES = (
    "decode", "features", *(f"network, {rows} together" for rows in BATCHES), "in fusionrnn", "in the best other",
)  # fmt: skip
TARGETS = {"torch": 1.2, "best": 1.5, "limit": 0.85}


@dataclass(frozen=True, slots=True)
class Figure:
    """One server's goodput in one workload on one runtime: a value a round, and a run at each of those rates."""

    rounds: Sequence[float]
    runs: Sequence[Record]

    @property
    def median(self) -> float:
        """Requests a second."""
        return statistics.median(self.rounds)

    def of_runs(self, name: str) -> float | None:
        """Median of a field over the runs at goodput."""
        values = [run[name] for run in self.runs if run.get(name) is not None]
        return statistics.median(values) if values else None


def figure(journal: Journal, workload: Workload, server: str, runtime: str) -> Figure | None:
    """What the journal has of a server; the batch size that was tuned is the one of the rounds."""
    rounds: dict[int, list[Record]] = {}
    for key, result in journal.all(kind="goodput", workload=workload.name, server=server, runtime=runtime):
        rounds.setdefault(key["round"], []).append(result)
    if not rounds:
        return None
    best = [
        max((run for run in runs if holds(run)), key=lambda run: run["rate"], default=None) for runs in rounds.values()
    ]
    return Figure([run["rate"] if run else 0.0 for run in best], [run for run in best if run])


def table(journal: Journal, workload: Workload, pictures: Path) -> Iterator[str]:
    """The servers in one workload, and a picture of their latencies in the folder ``pictures``."""
    yield f"## {workload.name}: {workload.model}"
    yield ""
    yield f"{workload.told}. Objective: 99 % within {workload.objective:g} s."
    yield ""
    for runtime, told in RUNTIMES.items():
        found = {server.name: figure(journal, workload, server.name, runtime) for server in SERVERS}
        if not any(found.values()):
            continue
        loop = _limit(journal, workload, runtime)
        yield f"On {told}" + (f"; the loop without HTTP does {loop:.3g} a second:" if loop else ":")
        yield ""
        yield _header("server", *_COLUMNS)
        yield _rule(len(_COLUMNS))
        for server in SERVERS:
            if (one := found[server.name]) is not None:
                yield _row(server.title, one, loop)
        yield ""
        name = f"serving-{workload.name.replace(' ', '-')}-{runtime}.svg"
        if draw_curves(journal, workload, runtime, pictures / name):
            yield f"![p99 by rate](pictures/{name})"
            yield ""


def _header(*names: str) -> str:
    return f"| {' | '.join(names)} |"


def _rule(numbers: int) -> str:
    return "|---|" + numbers * "---:|"


def _row(title: str, one: Figure, loop: float | None) -> str:
    spread = f"{one.median:.3g} ({min(one.rounds):.3g} to {max(one.rounds):.3g})"
    share = f"{one.median / loop:.0%}" if loop else ""
    cells = [spread, share, *(_scaled(one.of_runs(name), 1e3) for name in ("p50", "p95", "p99", "cpu"))]
    cells += [_scaled(one.of_runs("memory"), 1e-6), f"{sum(run['failed'] for run in one.runs)}"]
    return f"| {title} | {' | '.join(cells)} |"


def ratios(journal: Journal, measured: Sequence[Workload]) -> Iterator[str]:
    """Ours against the others' best."""
    yield "## Ratios"
    yield ""
    yield _paragraph(
        "fusionrnn's goodput over that of the best of LitServe, BentoML, Ray Serve and plain FastAPI: on the same "
        "runtime it says what the server is worth. At each one's best, fusionrnn chooses its kernels as it does when "
        "installed, and the others run the network as torch does, because none of them brings kernels of its own; "
        "given fusionrnn's, in one round, they are in the column before. What misses its target is in bold."
    )
    yield ""
    yield _header("workload", *_RATIOS)
    yield _rule(len(_RATIOS))
    for workload in measured:
        ours = {runtime: _median(journal, workload, OURS, runtime) for runtime in RUNTIMES}
        best = {runtime: _best(journal, workload, runtime) for runtime in RUNTIMES}
        mosec = _median(journal, workload, "mosec", "torch")
        held = workload.name.startswith(("w2", "w3"))
        near = workload.name.startswith(("w1", "w4"))
        cells = [
            _over(ours["torch"], best["torch"], TARGETS["torch"] if held else None),
            _over(ours["auto"], best["auto"], TARGETS["torch"] if held else None),
            _over(ours["auto"], best["torch"], TARGETS["best"]),
            _over(ours["torch"], mosec, None),
            *(
                _over(ours[runtime], _limit(journal, workload, runtime), TARGETS["limit"] if near else None)
                for runtime in RUNTIMES
            ),
        ]
        yield f"| {workload.name} | {' | '.join(cells)} |"
    yield ""
    yield _paragraph(
        f"Targets: {TARGETS['best']} at each one's best in every workload, {TARGETS['torch']} on the same runtime in "
        f"w2 and w3, {TARGETS['limit']:.0%} of the loop in w1 and w4."
    )
    yield ""


def shares(journal: Journal, measured: Sequence[Workload]) -> Iterator[str]:
    """What of a request's processor time each stage takes, and what is left for the server around it."""
    found = {(key["workload"], key["runtime"]): result for key, result in journal.all(kind="stages")}
    if not found:
        return
    yield "## Where the time goes"
    yield ""
    yield _paragraph(
        "Processor time of one item, ms, in a loop without HTTP: decoding, features, and the network's answer for rows "
        "of like lengths, alone and in batches. Beside it what a request costs fusionrnn and the best of the four "
        "others at their goodput; HTTP, threads, padding and waiting are the difference. What follows for the targets "
        "that are missed, and what was tried, is [here](serving-misses.md)."
    )
    yield ""
    yield _header("workload", *_STAGES)
    yield _rule(len(_STAGES))
    for workload in measured:
        for runtime, told in RUNTIMES.items():
            if (run := found.get((workload.name, runtime))) is None:
                continue
            cells = [_scaled(run[name], 1e3) for name in ("decode", "features")]
            cells += [_scaled(value, 1e3) for value in run["network"].values()]
            others = max(RIVALS, key=lambda name: _median(journal, workload, name, runtime) or 0.0)
            for server in (OURS, others):
                one = figure(journal, workload, server, runtime)
                cells.append(_scaled(one.of_runs("cpu") if one else None, 1e3))
            yield f"| {workload.name}, {told} | {' | '.join(cells)} |"
    yield ""


def _median(journal: Journal, workload: Workload, server: str, runtime: str) -> float | None:
    found = figure(journal, workload, server, runtime)
    return found.median if found else None


def _best(journal: Journal, workload: Workload, runtime: str) -> float | None:
    found = [_median(journal, workload, name, runtime) for name in RIVALS]
    return max((value for value in found if value is not None), default=None)


def _limit(journal: Journal, workload: Workload, runtime: str) -> float | None:
    found = [result["rate"] for _, result in journal.all(kind="limit", workload=workload.name, runtime=runtime)]
    return statistics.median(found) if found else None


def _over(value: float | None, base: float | None, target: float | None) -> str:
    if value is None or not base:
        return "not measured"
    ratio = value / base
    return f"{ratio:.2f}" if target is None or ratio >= target else f"**{ratio:.2f}**"


def _scaled(value: Any, by: float) -> str:
    return "" if value is None else f"{by * value:.3g}"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120)
