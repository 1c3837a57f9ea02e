"""Measure fusionrnn beside plain FastAPI, LitServe, BentoML, Ray Serve and Mosec, and write docs/results/serving.md.

Every measurement is kept in a journal as soon as it is made: a run that was interrupted goes on where it was. Peers are
installed into build/peers at the first run; --quick leaves out those that are not there yet.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.serving.bench import Bench
from benchmarks.serving.comparison import RUNTIMES
from benchmarks.serving.goodput import Effort
from benchmarks.serving.page import write
from benchmarks.serving.servers import ROOT, SERVERS, Server, ServerFault
from benchmarks.serving.workloads import WORKLOADS, Workload
from models.training.progress import progress

_QUICK = Effort(requests=60, shortest=2.0, longest=6.0, rounds=1, tolerance=0.2, tunes=False)
_QUICK_WORKLOADS = ("w3",)


def main() -> None:
    """Measure, then write the page and print it."""
    chosen = _arguments()
    quick: bool = chosen.quick
    folder: Path = chosen.journal / "quick" if quick else chosen.journal
    servers = [server for server in SERVERS if not chosen.servers or server.name in chosen.servers]
    os.sched_setaffinity(0, [chosen.client_core])
    bench = Bench(folder, _QUICK if quick else Effort(rounds=chosen.rounds), chosen.server_cores)
    if not chosen.page:
        _measure(bench, chosen, servers)
    out: Path = chosen.out or (folder / "serving.md" if quick else ROOT / "docs" / "results" / "serving.md")
    write(bench.journal, out, _command(), bench.absent)
    print(out.read_text(encoding="utf-8"))


def _command() -> str:
    given = " ".join(argument for argument in sys.argv[1:] if argument != "--page")
    return f'make bench ARGS="{given}"' if given else "make bench"


def _measure(bench: Bench, chosen: argparse.Namespace, servers: Sequence[Server]) -> None:
    quick: bool = chosen.quick
    workloads = _workloads(chosen.workloads or (_QUICK_WORKLOADS if quick else ()))
    with progress("peers", total=len(servers)) as advance:
        for server in servers:
            _install(bench, server, quick=quick)
            advance(server.name)
    _compare(bench, workloads, servers)
    _alone(bench, workloads, quick=quick)
    if not quick:
        _on_our_kernels(bench, workloads, servers)


def _compare(bench: Bench, workloads: Sequence[Workload], servers: Sequence[Server]) -> None:
    # Rounds outside, servers inside: whatever else the machine does disturbs all of them alike.
    rounds = bench.effort.rounds
    with progress("goodput", total=rounds * len(RUNTIMES) * len(workloads) * len(servers)) as advance:
        for round_ in range(rounds):
            for workload in workloads:
                for runtime in RUNTIMES:
                    bench.limit(workload, runtime, round_)
                    for server in servers:
                        if bench.wanted(server, workload, runtime, round_):
                            bench.goodput(server, workload, runtime, round_)
                        advance(f"{workload.name}, {runtime}, {server.name}")


def _alone(bench: Bench, workloads: Sequence[Workload], *, quick: bool) -> None:
    with progress("the service alone", total=len(workloads) + (0 if quick else 3)) as advance:
        for workload in workloads:
            bench.overload(workload)
            bench.stages(workload)
            advance(f"{workload.name}, overload and stages")
        if quick:
            return
        bench.lengths(repeats=5)
        advance("lengths")
        bench.memory()
        advance("memory")
        bench.stepwise()
        advance("stepwise")


def _on_our_kernels(bench: Bench, workloads: Sequence[Workload], servers: Sequence[Server]) -> None:
    """Others given our kernels: one round, and last, because no target is set against it."""
    with progress("others on fusionrnn's kernels", total=len(workloads) * len(servers)) as advance:
        for workload in workloads:
            for server in servers:
                bench.goodput(server, workload, "auto", 0)
                advance(f"{workload.name}, {server.name}")


def _install(bench: Bench, server: Server, *, quick: bool) -> None:
    if quick and not server.installed:
        bench.absent[server.name] = "not installed: --quick takes what is there, a run without it installs all"
        return
    try:
        server.install()
    except ServerFault as fault:
        bench.absent[server.name] = str(fault)


def _workloads(names: Sequence[str]) -> list[Workload]:
    """Those that are named, by the whole name or its first word, and whose checkpoint is shipped; all for no names."""
    shipped = [workload for workload in WORKLOADS if workload.shipped]
    return [work for work in shipped if not names or {work.name, work.name.split()[0]} & set(names)]


def _arguments() -> argparse.Namespace:
    cores = sorted(os.sched_getaffinity(0))
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = arguments.add_argument
    add("--quick", action="store_true", help="under five minutes: one short round of one workload")
    add("--page", action="store_true", help="measure nothing: write the page from what the journal has")
    add("--rounds", type=int, default=3)
    add("--workloads", nargs="*", help="w1, w2, w3, w4; all by default")
    add("--servers", nargs="*", choices=[server.name for server in SERVERS])
    add("--client-core", type=int, default=cores[0])
    add("--server-cores", type=int, nargs="+", default=cores[-1:])
    add("--journal", type=Path, default=ROOT / "runs" / "bench", help="folder of the journal; delete it to begin anew")
    add("--out", type=Path, help="page to write; the default is docs/results/serving.md")
    return arguments.parse_args()


if __name__ == "__main__":
    main()
