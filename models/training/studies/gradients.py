"""Vanishing and exploding gradients: remember the first symbol of a sequence over a distance.

The effect is that of Bengio et al. 1994, "Learning Long-Term Dependencies with Gradient Descent is Difficult"; clipping
is from Pascanu et al. 2013, the identity start of the relu network from Le et al. 2015.

A sequence begins with one of ``SYMBOLS`` symbols, ``distance`` distractors follow, and the network must name the symbol
at the last of them. What distance is measured over is where explicit state comes in: the gradient of the loss with
respect to the state d steps before the end is what training at distance d has to work with.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.rnn import CellName, Nonlinearity, RecurrentEncoder
from models.training.studies.page import draw, paragraph, percent, remembered, table
from models.training.studies.statistics import t_interval

SYMBOLS = 4
DISTANCES = (1, 2, 4, 8, 16, 32, 64, 128)
ROWS = 256


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
    """How much each network learns: ``steps`` batches, each at a distance drawn from 1 to ``farthest``."""

    steps: int = 1000
    farthest: int = 32
    rows: int = 32
    hidden: int = 32
    rate: float = 3e-3


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
def accuracies(network: Recall, generator: torch.Generator) -> list[float]:
    """Share of ``ROWS`` sequences whose first symbol is named, at each of ``DISTANCES``."""
    shares = []
    for distance in DISTANCES:
        x, symbols = sequences(ROWS, distance, generator)
        shares.append(float((network(x).argmax(1) == symbols).float().mean()))
    return shares


def run_variant(variant: Variant, training: Training, seed: int) -> dict[str, Any]:
    """Train one network: its gradient norms before and after, its accuracies, and the largest norm on the way."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Recall(variant, training.hidden)
    before = gradient_norms(network, torch.Generator().manual_seed(seed + 1000))
    optimizer = torch.optim.Adam(network.parameters(), training.rate)
    largest = 0.0
    for _ in range(training.steps):
        distance = int(torch.randint(1, training.farthest + 1, (), generator=generator))
        x, symbols = sequences(training.rows, distance, generator)
        optimizer.zero_grad()
        F.cross_entropy(network(x), symbols).backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(network.parameters(), variant.clip))
        largest = max(largest, norm)
        optimizer.step()
    held_out = torch.Generator().manual_seed(seed + 2000)
    return {
        "before": before,
        "after": gradient_norms(network, torch.Generator().manual_seed(seed + 1000)),
        "accuracy": accuracies(network, held_out),
        "largest": largest,
    }


def run(out: Path, *, seeds: int, quick: bool, command: str) -> Path:
    """Run every variant with every seed, and write ``gradients.md`` with its picture into ``out``."""
    training = Training(steps=20, farthest=8) if quick else Training()
    folder = out / ("quick" if quick else "runs") / "gradients"
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in VARIANTS}
    for seed in range(seeds):
        for name, variant in VARIANTS.items():
            file = folder / f"{slug(name)}-{seed}.json"
            results[name].append(remembered(file, partial(run_variant, variant, training, seed)))
    titles = {"before": "before training", "after": "after training", "accuracy": "accuracy after training"}
    panels = {
        title: {
            name: {distance: [run[key][place] for run in runs] for place, distance in enumerate(DISTANCES)}
            for name, runs in results.items()
        }
        for key, title in titles.items()
    }
    y = {
        "before training": "norm of dloss / dstate",
        "after training": "norm of dloss / dstate",
        "accuracy after training": "share of first symbols named",
    }
    draw(
        out / "pictures" / "gradients.png",
        panels,
        x="steps before the end",
        y=y,
        log_y=["before training", "after training"],
    )
    page = out / "gradients.md"
    page.write_text(_page(results, training, seeds, command), encoding="utf-8")
    return page


def slug(name: str) -> str:
    """A file name for a variant."""
    return name.lower().replace(", ", "-").replace(" ", "-")


def _page(results: dict[str, list[dict[str, Any]]], training: Training, seeds: int, command: str) -> str:
    head = ["", *map(str, DISTANCES)]
    norms = [
        [name, *(_norm([run["before"][place] for run in runs]) for place in range(len(DISTANCES)))]
        for name, runs in results.items()
    ]
    right = [
        [name, *(percent([run["accuracy"][place] for run in runs]) for place in range(len(DISTANCES)))]
        for name, runs in results.items()
    ]
    largest = [[name, f"{max(run['largest'] for run in runs):.3g}"] for name, runs in results.items()]
    about = f"""The network reads one of {SYMBOLS} symbols, then distractors, and must name the symbol at the end.
        {training.hidden} units, Adam at {training.rate}, {training.steps} batches of {training.rows} sequences, each
        batch at a distance drawn from 1 to {training.farthest}; {seeds} seeds; figures over {ROWS} new sequences a
        seed and distance. Chance is {100 / SYMBOLS:.0f} %. Distances over {training.farthest} were never trained.
        Clipping is to the norm {VARIANTS["LSTM, clipped"].clip:.0f}."""
    return f"""# Vanishing and exploding gradients

    {command}

{paragraph(about)}

![Gradient norms and accuracy against distance](pictures/gradients.png)

## Accuracy after training, in percent, against distance

Mean over seeds ± the half width of its 95 % interval (Student's t).

{table(head, right)}

## Gradient before training, against distance

Norm of the gradient of a sequence's loss with respect to the state (h, and c of the LSTM) so many steps before the end:
geometric mean over seeds.

{table(head, norms)}

## Largest gradient on the way

Norm over all parameters, before clipping, of any batch of any seed.

{table(["", "norm"], largest)}
"""


def _norm(values: list[float]) -> str:
    mean, _ = t_interval([math.log(max(value, 1e-30)) for value in values])
    return f"{math.exp(mean):.1e}"
