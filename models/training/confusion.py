"""The picture of what is taken for what."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.tasks.overlay import CHINESE

_WRITTEN = 20
"""Most classes for which the counts are written into the cells."""


def draw_confusion(table: NDArray[np.int64], labels: list[str], picture: Path) -> None:
    """Write a PNG of counts [C, C], true classes down and guessed ones across, each row coloured by its shares."""
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties, fontManager

    # matplotlib's own font has no Chinese.
    fontManager.addfont(CHINESE)
    families = ["sans-serif", FontProperties(fname=CHINESE).get_name()]
    side = min(2.5 + 0.45 * len(labels), 30)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    shares = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(labels) <= _WRITTEN:
        for row, column in np.ndindex(table.shape):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(table[row, column]), ha="center", va="center", color=colour, fontsize=8)
    # A dollar sign would start a formula.
    plain = [label.replace("$", r"\$") for label in labels]
    axes.set_xticks(range(len(labels)), plain, rotation=90, fontfamily=families)
    axes.set_yticks(range(len(labels)), plain, fontfamily=families)
    axes.set_xlabel("guessed")
    axes.set_ylabel("true")
    figure.savefig(picture, dpi=100)
