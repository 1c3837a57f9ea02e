"""Curves of latency against rate."""

from pathlib import Path

from benchmarks.serving.journal import Journal
from benchmarks.serving.servers import SERVERS
from benchmarks.serving.workloads import Workload

_SIZE = (8.0, 4.0)
_TOP = 4.0
"""Objectives up to which latencies are shown."""


def draw_curves(journal: Journal, workload: Workload, runtime: str, file: Path) -> bool:
    """p99 of every run by its rate, a line a server; False if there is nothing to draw."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=_SIZE, layout="constrained")
    drawn = False
    for server in SERVERS:
        found = journal.all(kind="goodput", workload=workload.name, server=server.name, runtime=runtime)
        top = _TOP * workload.objective
        points = sorted((run["rate"], 1e3 * min(run["p99"] or top, top)) for _, run in found)
        if points:
            rates, latencies = zip(*points, strict=True)
            axes.plot(rates, latencies, marker="o", markersize=3, linewidth=1, label=server.title)
            drawn = True
    if drawn:
        axes.axhline(1e3 * workload.objective, color="grey", linestyle=":", label="objective")
        axes.set(xlabel="requests a second", ylabel="p99, ms", ylim=(0, None), title=f"{workload.name}, {runtime}")
        axes.legend(fontsize="small")
        plt.rcParams["svg.hashsalt"] = "serving"
        figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
    return drawn
