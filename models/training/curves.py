"""The picture of a training run: losses and validation figures over epochs, stage after stage."""

import json
from pathlib import Path
from typing import Any


def draw_curves(log: Path, picture: Path) -> None:
    """Read a trainer's ``log.jsonl`` and write a PNG with one panel a figure."""
    from matplotlib.figure import Figure

    lines = log_lines(log)
    skipped = {"stage", "epoch", "kind", "seconds"}
    names = list(dict.fromkeys(name for line in lines for name in line if name not in skipped))
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    starts, total = {}, 0
    for stage in stages:
        starts[stage] = total
        total += max(line["epoch"] for line in lines if line["stage"] == stage)
    columns = 3
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.5 * columns, 2.8 * rows), layout="constrained")
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, place)
        for stage in stages:
            mine = [line for line in lines if name in line and line["stage"] == stage]
            points = [(starts[stage] + line["epoch"], line[name]) for line in mine]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", label=stage)
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(picture, dpi=100)


def log_lines(log: Path) -> list[dict[str, Any]]:
    """What a trainer's ``log.jsonl`` says; lines that a kill cut off are skipped.

    An epoch that was finished, but not saved, is there again after a kill: the last time counts.
    """
    read = (_whole(line) for line in log.read_text(encoding="utf-8").splitlines())
    return list({(line["stage"], line["epoch"], line["kind"]): line for line in read if line is not None}.values())


def _whole(line: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return found
