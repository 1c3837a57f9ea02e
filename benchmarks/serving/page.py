"""docs/results/serving.md, written from the journal: nothing that was not measured."""

import os
import platform
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from benchmarks.serving.bench import BEHIND
from benchmarks.serving.comparison import ratios, shares, table
from benchmarks.serving.goodput import SHARE
from benchmarks.serving.journal import Journal
from benchmarks.serving.servers import SERVERS
from benchmarks.serving.service import tables
from benchmarks.serving.workloads import WORKLOADS


def write(journal: Journal, out: Path, command: str, absent: Mapping[str, str]) -> None:
    """Write the page, and its pictures beside it in ``pictures``."""
    pictures = out.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    measured = [workload for workload in WORKLOADS if any(journal.all(kind="goodput", workload=workload.name))]
    lines = [*_head(command), *_settings(journal, absent)]
    for workload in measured:
        lines += table(journal, workload, pictures)
    lines += [*ratios(journal, measured), *shares(journal, measured), *tables(journal, measured)]
    lines += ["## GPU", "", "Not measured: torch saw no GPU." if not torch.cuda.is_available() else "Not measured.", ""]
    out.write_text("\n".join(lines), encoding="utf-8")


def _head(command: str) -> Iterator[str]:
    yield "# Serving, beside other servers"
    yield ""
    yield f"    {command}"
    yield ""
    yield _paragraph(
        "Every server runs the same checkpoints with the same code for decoding, features and network (the package "
        "`models`), gets the same requests from the same client, and is pinned with all its processes to one core; "
        "the client has another. Requests come as a Poisson process whatever the server does, and a latency counts "
        f"from the scheduled arrival. Goodput is the highest rate at which {SHARE:.0%} of all requests are answered "
        "within the objective, a refused one counting as not answered; medians of the rounds, with the least and "
        f"the most; Mosec, which no target is set against, and what was below {BEHIND:.0%} of the best in the first "
        "round, have one. CPU seconds and memory (PSS) are of all of a server's processes, at its goodput."
    )
    yield ""
    release = torch.__version__.partition("+")[0]
    yield f"{_processor()}, {os.cpu_count()} cores; Python {platform.python_version()}, torch {release}."
    yield ""


def _settings(journal: Journal, absent: Mapping[str, str]) -> Iterator[str]:
    yield "## Settings"
    yield ""
    yield _paragraph(
        "Each peer is a small server in its own idiom (`benchmarks/serving/peers`), installed with exact pins, "
        "with its dynamic batching on where a batch was faster: the largest batch was chosen for each workload "
        "by what it answered 16 clients that each ask again at once."
    )
    yield ""
    yield "| server | settings | largest batch, by workload |"
    yield "|---|---|---|"
    for server in SERVERS:
        if server.name in absent:
            yield f"| {server.title} | {absent[server.name]} | |"
            continue
        if not any(journal.all(kind="goodput", server=server.name)):
            yield f"| {server.title} | not measured | |"
            continue
        chosen = {key["workload"]: result["batch"] for key, result in journal.all(kind="batch", server=server.name)}
        yield f"| {server.title} | {server.told} | {', '.join(f'{name}: {batch}' for name, batch in chosen.items())} |"
    yield ""


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())
