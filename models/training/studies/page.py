"""What a study leaves behind: a result file for each run, its figures in words, a picture with bands."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.files import write_whole
from models.training.metrics.seeds import t_interval


def remembered(path: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of ``run``, kept in the JSON file ``path``: a study that was killed goes on with the next run."""
    if path.is_file():
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    result = run()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(result))
    print(path.relative_to(path.parents[1]), flush=True)
    return result


def percent(values: Sequence[float]) -> str:
    """Shares as "mean ± half width" of the 95 % interval, in percent."""
    mean, half = t_interval(values)
    return f"{100 * mean:.1f}" if math.isnan(half) else f"{100 * mean:.1f} ± {100 * half:.1f}"


def points(mean: float, half: float) -> str:
    """A difference of shares and the half width of its interval, in points."""
    return f"{100 * mean:+.1f} ± {100 * half:.1f}"


Curve = Mapping[float, Sequence[float]]
"""Values of each seed at each place on the x axis."""


def draw(
    picture: Path,
    panels: Mapping[str, Mapping[str, Curve]],
    *,
    x: str,
    y: Mapping[str, str],
    log_y: Sequence[str] = (),
    bands: bool = True,
) -> None:
    """A PNG of one panel each of ``panels``: mean curves, with ``bands`` of their 95 % intervals.

    Panels named in ``log_y`` have a logarithmic y axis, and bands there are of the logarithm's mean.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    colors = colormaps["tab20"].colors  # type: ignore[attr-defined]
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    for place, (title, curves) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), place)
        for color, (name, curve) in zip(colors, curves.items(), strict=False):
            logarithmic = title in log_y
            places = sorted(curve)
            seeds = [[math.log(max(value, 1e-30)) if logarithmic else value for value in curve[at]] for at in places]
            means, halves = zip(*map(t_interval, seeds), strict=True)
            back = math.exp if logarithmic else float
            axes.plot(places, [back(mean) for mean in means], marker="o", markersize=3, label=name, color=color)
            if not bands:
                continue
            low, high = (
                [back(mean + sign * half) for mean, half in zip(means, halves, strict=True)] for sign in (-1, 1)
            )
            axes.fill_between(places, low, high, alpha=0.12, color=color, linewidth=0)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(x)
        axes.set_ylabel(y[title])
        axes.grid(alpha=0.3)
        if title in log_y:
            axes.set_yscale("log")
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=90)
