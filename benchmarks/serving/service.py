"""What the page says of the service alone: captions step by step, overload, memory, and cost by length."""

import textwrap
from collections.abc import Iterator, Sequence

from benchmarks.serving.endurance import REST_SECONDS
from benchmarks.serving.journal import Journal
from benchmarks.serving.workloads import Workload

_SIDES = ("stepwise", "padded", "thinning")


def tables(journal: Journal, measured: Sequence[Workload]) -> Iterator[str]:
    """Its sections, those that were measured."""
    yield from _stepwise(journal)
    yield from _overload(journal, measured)
    yield from _memory(journal)
    yield from _lengths(journal)


def _stepwise(journal: Journal) -> Iterator[str]:
    found = [(key, line) for key, result in journal.all(kind="stepwise") for line in result["lines"] if "share" in line]
    if not found:
        return
    yield "## Captions step by step, against batches"
    yield ""
    yield "    python -m benchmarks.serving.stepwise --photos FOLDER --runtime RUNTIME"
    yield ""
    yield _paragraph(
        "The same requests of mixed widths, lengths and languages on one thread, without HTTP, at a share of what "
        "padded batches do at most. A batch takes all that waits, up to 16, and ends when its longest row does. In a "
        "padded one each row is as wide as the widest beam and computed to the end, as most servers do it; in one that "
        "thins out it is as wide as it asked for and leaves when it is done. Targets against padded batches: p90 at "
        "most 0.6 times, throughput at least 1.25 times."
    )
    yield ""
    yield "p90 of the latency, ms:"
    yield ""
    yield "| runtime | load | step by step | padded | ratio | thinning | ratio |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for key, line in found:
        ours, padded, thinning = (line[side]["p90"] for side in _SIDES)
        yield (
            f"| {key['runtime']} | {line['share']:.0%} | {1e3 * ours:.0f} | {1e3 * padded:.0f} | {ours / padded:.2f} | "
            f"{1e3 * thinning:.0f} | {ours / thinning:.2f} |"
        )
    yield ""
    yield "Answers a second:"
    yield ""
    yield "| runtime | load | step by step | padded | ratio | thinning | ratio |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for key, result in journal.all(kind="stepwise"):
        for line in result["lines"]:
            rates = [line["most"][side] if "most" in line else line[side]["throughput"] for side in _SIDES]
            ours, padded, thinning = rates
            load = "all at once" if "most" in line else f"{line['share']:.0%}"
            yield (
                f"| {key['runtime']} | {load} | {ours:.3g} | {padded:.3g} | {ours / padded:.2f} | {thinning:.3g} | "
                f"{ours / thinning:.2f} |"
            )
    yield ""


def _overload(journal: Journal, measured: Sequence[Workload]) -> Iterator[str]:
    found = {key["workload"]: result for key, result in journal.all(kind="overload")}
    if not found:
        return
    yield "## Twice as much as it sustains"
    yield ""
    yield _paragraph(
        "fusionrnn alone, at twice its goodput; clients say that they wait for the objective (`X-Request-Timeout`). "
        "Answers within it a second, over the goodput: target 90 %. Refused are those told to come back later, given "
        "up those that were taken and came too late, lost those that got no answer of either kind: target 0."
    )
    yield ""
    yield "| workload | rate, req/s | in time, req/s | of the goodput | answered | refused | given up | lost |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for workload in measured:
        if (run := found.get(workload.name)) is not None:
            in_time = run["within"] / run["seconds"]
            yield (
                f"| {workload.name} | {run['rate']:.3g} | {in_time:.3g} | {in_time / run['sustained']:.0%} | "
                f"{run['answered']} | {run['refused']} | {run['expired']} | {run['failed']} |"
            )
    yield ""


def _memory(journal: Journal) -> Iterator[str]:
    for _, run in journal.all(kind="memory"):
        marks, rest = ([mark / 1e6 for mark in run[name]] for name in ("marks", "rest"))
        yield "## Memory"
        yield ""
        yield _paragraph(
            f"{run['requests']} mixed requests, 8 at a time, {run['failed']} of them failed. Memory (PSS) after each "
            f"{run['first']}: {', '.join(f'{mark:.0f}' for mark in marks)} MB. The last over the first: "
            f"{marks[-1] / marks[0] - 1:+.1%}; target: within 3 %. At rest, {REST_SECONDS} s after the last answer: "
            f"{rest[0]:.0f} MB after the first {run['first']}, {rest[-1]:.0f} after all, {rest[-1] / rest[0] - 1:+.1%}."
        )
        yield ""


def _lengths(journal: Journal) -> Iterator[str]:
    found = list(journal.all(kind="length"))
    if not found:
        return
    yield "## Cost by length"
    yield ""
    yield _paragraph(
        "One request at a time, medians; `FUSIONRNN_LIMITS__AUDIO_SECONDS=1800`. The last column is how much more a "
        "unit of length costs than in the line above: above 1 the cost grows faster than the length."
    )
    yield ""
    yield "| checkpoint | length | ms | ms a unit | a unit, over the line above |"
    yield "|---|---:|---:|---:|---:|"
    for key, result in found:
        before: tuple[float, float] | None = None
        for text, took in result["seconds"].items():
            length, label = float(text), f"| {key['model']} | {text} {key['unit']} |"
            if took is None:
                yield f"{label} refused: longer than the service's limit | | |"
                continue
            growth = "" if before is None else f"{(took / before[1]) / (length / before[0]):.2f}"
            yield f"{label} {1e3 * took:.1f} | {1e3 * took / length:.2f} | {growth} |"
            before = (length, took)
    yield ""


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120)
