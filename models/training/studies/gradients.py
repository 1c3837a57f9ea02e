"""Vanishing and exploding gradients: remember the first symbol of a sequence over a distance.

The effect is that of Bengio et al. 1994, "Learning Long-Term Dependencies with Gradient Descent is Difficult"; clipping
is from Pascanu et al. 2013, the identity start of the relu network from Le et al. 2015.

A sequence begins with one of ``SYMBOLS`` symbols, ``distance`` distractors follow, and the network must name the symbol
at the last of them. The gradient of the loss with respect to the state d steps before the end, which an explicit state
lets one ask for, is what training at distance d has to work with. So each network is trained at one distance only: with
short ones among them, it learns to latch the symbol there and holds it over any distance.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.cells import CellName, Nonlinearity
from models.rnn import RecurrentEncoder
from models.training.markdown import paragraph, table
from models.training.metrics.seeds import t_interval
from models.training.studies.page import draw, percent, remembered

SYMBOLS = 4
DISTANCES = (1, 2, 4, 8, 16, 32, 64, 128)
TRAINED = (4, 8, 16, 32, 64)
ROWS = 256
LEAST = 1e-29
"""Norms under it are as good as zero."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A cell, how its recurrent weights start, and whether gradients are clipped to the norm 1."""

    cell: CellName
    start: str = "orthogonal"
    nonlinearity: Nonlinearity = "tanh"
    clip: float = 1.0


VARIANTS = {
    "Elman, uniform start": Variant("elman", "uniform", clip=math.inf),
    "Elman, uniform start, clipped": Variant("elman", "uniform"),
    "Elman, large start": Variant("elman", "large", clip=math.inf),
    "Elman, large start, clipped": Variant("elman", "large"),
    "Elman, orthogonal start, clipped": Variant("elman"),
    "Elman, relu, identity start, clipped": Variant("elman", "identity", "relu"),
    "GRU, clipped": Variant("gru"),
    "LSTM, clipped": Variant("lstm"),
}


@dataclass(frozen=True, slots=True)
class Training:
    """How much each network learns: ``steps`` batches of ``rows`` sequences."""

    steps: int = 400
    rows: int = 32
    hidden: int = 32
    rate: float = 1e-2


class Recall(nn.Module):
    """One recurrent layer, and a linear layer that names the symbol at the last step."""

    def __init__(self, variant: Variant, hidden: int) -> None:
        super().__init__()
        self.rnn = RecurrentEncoder(2 * SYMBOLS, hidden, cell=variant.cell, nonlinearity=variant.nonlinearity)
        self.output = nn.Linear(hidden, SYMBOLS)
        bound = 1 / math.sqrt(hidden)
        for name, weight in self.rnn.named_parameters():
            if "weight_hh" not in name or variant.start == "orthogonal":
                continue
            if variant.start == "identity":
                nn.init.eye_(weight)
            else:
                # Uniform as torch starts: a spectral radius of about 0.6; large: three times that.
                nn.init.uniform_(weight, *((-bound, bound) if variant.start == "uniform" else (-3 * bound, 3 * bound)))

    def forward(self, x: Tensor, state: dict[str, Tensor] | None = None) -> Tensor:
        """Scores [B, SYMBOLS] after the last step of ``x`` [B, T, 2 * SYMBOLS]."""
        lengths = torch.full((len(x),), x.shape[1])
        scores: Tensor = self.output(self.rnn(x, lengths, state).sequence[:, -1])
        return scores


def sequences(rows: int, distance: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One-hot sequences [rows, distance + 1, 2 * SYMBOLS] and the symbols [rows] that they begin with."""
    first = torch.randint(SYMBOLS, (rows, 1), generator=generator)
    others = torch.randint(SYMBOLS, 2 * SYMBOLS, (rows, distance), generator=generator)
    return F.one_hot(torch.cat([first, others], 1), 2 * SYMBOLS).float(), first.squeeze(1)


def gradient_norms(network: Recall, generator: torch.Generator) -> list[float]:
    """Mean over ``ROWS`` sequences of the norm of dloss / dstate, the state being that of ``DISTANCES`` steps ago."""
    x, symbols = sequences(ROWS, max(DISTANCES), generator)
    norms = []
    for distance in DISTANCES:
        with torch.no_grad():
            _, state = network.rnn.step(x[:, :-distance], network.rnn.initial_state(ROWS))
        leaves = {name: value.requires_grad_() for name, value in state.items()}
        loss = F.cross_entropy(network(x[:, -distance:], leaves), symbols, reduction="sum")
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        norms.append(float(torch.cat(gradients, 1).norm(dim=1).mean()))
    return norms


@torch.no_grad()
def accuracy(network: Recall, distance: int, generator: torch.Generator) -> float:
    """Share of ``ROWS`` new sequences whose first symbol is named."""
    x, symbols = sequences(ROWS, distance, generator)
    return float((network(x).argmax(1) == symbols).float().mean())


def run_variant(variant: Variant, distances: Sequence[int], training: Training, seed: int) -> dict[str, Any]:
    """Gradient norms before training; accuracy, and the largest norm, of a network trained at each of ``distances``."""
    before: list[float] = []
    shares, largest = [], []
    for distance in distances:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        network = Recall(variant, training.hidden)
        before = before or gradient_norms(network, torch.Generator().manual_seed(seed + 1000))
        optimizer = torch.optim.Adam(network.parameters(), training.rate)
        norms = []
        for _ in range(training.steps):
            x, symbols = sequences(training.rows, distance, generator)
            optimizer.zero_grad()
            F.cross_entropy(network(x), symbols).backward()  # type: ignore[no-untyped-call]
            norms.append(float(nn.utils.clip_grad_norm_(network.parameters(), variant.clip)))
            optimizer.step()
        shares.append(accuracy(network, distance, torch.Generator().manual_seed(seed + 2000)))
        largest.append(max(norms))
    return {"before": before, "accuracy": shares, "largest": largest}


def run(out: Path, *, seeds: int, quick: bool, command: str) -> Path:
    """Run every variant with every seed, and write ``gradients.md`` with its picture into ``out``."""
    training = Training(steps=3) if quick else Training()
    distances = TRAINED[:1] if quick else TRAINED
    folder = out / ("quick" if quick else "runs") / "gradients"
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        for name, variant in VARIANTS.items():
            file = folder / f"{slug(name)}-{seed}.json"
            results[name].append(remembered(file, partial(run_variant, variant, distances, training, seed)))
    panels = {
        title: {name: _curve(runs, key, places) for name, runs in results.items()}
        for title, key, places in (("before training", "before", DISTANCES), ("after training", "accuracy", distances))
    }
    y = {"before training": "norm of dloss / dstate", "after training": "share of first symbols named"}
    draw(out / "pictures" / "gradients.png", panels, x="distance in steps", y=y, log_y=["before training"], bands=False)
    page = out / "gradients.md"
    page.write_text(_page(results, distances, training, seeds, command), encoding="utf-8")
    return page


def slug(name: str) -> str:
    """A file name for a variant."""
    return name.lower().replace(", ", "-").replace(" ", "-")


def _curve(runs: list[dict[str, Any]], key: str, places: Sequence[int]) -> dict[float, list[float]]:
    return {distance: [run[key][place] for run in runs] for place, distance in enumerate(places)}


def _page(
    results: dict[str, list[dict[str, Any]]], distances: Sequence[int], training: Training, seeds: int, command: str
) -> str:
    def rows(key: str, places: Sequence[int], said: Callable[[list[float]], str]) -> list[list[str]]:
        return [[name, *map(said, _curve(runs, key, places).values())] for name, runs in results.items()]

    about = f"""The network reads one of {SYMBOLS} symbols, then distractors, and must name the symbol at the end.
        {training.hidden} units, Adam at {training.rate}, {training.steps} batches of {training.rows} sequences, each
        network at one distance only; {seeds} seeds; accuracy over {ROWS} new sequences a seed. Chance is
        {100 / SYMBOLS:.0f} %. Clipping is to the norm {VARIANTS["LSTM, clipped"].clip:.0f}. The uniform start is
        torch's own, the large one three times that. Mostly a network has either learned the task or not, so
        intervals over a few seeds are wide where only some have."""
    trained = ["", *map(str, distances)]
    return f"""# Vanishing and exploding gradients

    {command}

{paragraph(about)}

![Gradient norms and accuracy against distance](pictures/gradients.png)

## Gradient before training, against distance

Norm of the gradient of a sequence's loss with respect to the state (h, and c of the LSTM) so many steps before the end:
geometric mean over seeds.

{table(["", *map(str, DISTANCES)], rows("before", DISTANCES, _geometric))}

## Accuracy after training, in percent, against the distance trained at

Mean over seeds ± the half width of its 95 % interval (Student's t).

{table(trained, rows("accuracy", distances, percent))}

## Largest gradient on the way, against the distance trained at

Norm over all parameters, before clipping, of any batch of any seed.

{table(trained, rows("largest", distances, lambda values: f"{max(values):.3g}"))}
"""


def _geometric(values: list[float]) -> str:
    if min(values) < LEAST:
        return f"< {LEAST:.0e}"
    mean, _ = t_interval([math.log(value) for value in values])
    return f"{math.exp(mean):.1e}"
