"""How a fusion bears missing modalities, with and without having met them in training.

Modality dropout is from Neverova et al. 2016, "ModDrop: Adaptive Multi-modal Gesture Recognition"; here it is
progressive: rare in the first epochs, so that the fused decision is learned before it is disturbed.
"""

from dataclasses import replace
from pathlib import Path

import torch

from models.training.markdown import paragraph, table
from models.training.metrics.seeds import t_interval
from models.training.studies.conversations import MODALITIES, Batch, collate
from models.training.studies.fitting import Plan, draw_present, score
from models.training.studies.mosi import FOLDS, FUSIONS_TRIED, PLAN, fitted, network_file, prepare
from models.training.studies.network import ConversationNetwork
from models.training.studies.page import draw, percent, points

SHARES = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
SHOWN = (0.0, 0.3, 0.6, 0.9)
DRAWS = 5
DROP = 0.5


def accuracies(network: ConversationNetwork, batch: Batch, share: float, draws: int) -> float:
    """Accuracy where each modality of each conversation is missing with probability ``share``, over ``draws`` draws.

    Where all were missing one stays, so at least one is always there. The draws are the same for every network.
    """
    generator = torch.Generator().manual_seed(round(1000 * share))
    rows = len(next(iter(batch.inputs.values())).lengths)
    right = 0.0
    for _ in range(draws):
        present = draw_present(rows, len(network.modalities), share, generator)
        right += float((score(network, batch, present).argmax(1) == batch.labels).float().mean())
    return right / draws


def run(data: Path, out: Path, *, seeds: int, quick: bool, command: str) -> Path:
    """Train every fusion with and without modality dropout, and write ``missing-modality.md`` with its picture."""
    plan = Plan(epochs=1, hidden=4, dev_draws=1) if quick else PLAN
    plans = {"without": plan, "with": replace(plan, modality_dropout="progressive", drop=DROP)}
    curves: dict[str, dict[str, dict[float, list[float]]]] = {kind: {} for kind in plans}
    for seed in range(seeds):
        # One network a seed: the first of those that a run of the study of all fusions averages.
        parts = prepare(data, seed)[0]
        test = collate(parts.test)
        for name, fusion in FUSIONS_TRIED.items():
            for kind, chosen in plans.items():
                # The networks without dropout are those of the study of all fusions.
                folder = out / ("quick" if quick else "runs") / ("mosi" if kind == "without" else "missing-modality")
                file = network_file(folder, name, context=True, seed=seed, fold=0)
                network, _ = fitted(parts, fusion, MODALITIES, chosen, file, context=True, seed=FOLDS * seed)
                curve = curves[kind].setdefault(name, {share: [] for share in SHARES})
                for share in SHARES:
                    curve[share].append(accuracies(network, test, share, DRAWS if share and not quick else 1))
    titles = {kind: f"{kind} modality dropout" for kind in plans}
    draw(
        out / "pictures" / "missing-modality.png",
        {titles[kind]: by_fusion for kind, by_fusion in curves.items()},
        x="probability that a modality is missing",
        y=dict.fromkeys(titles.values(), "accuracy on the test videos"),
        bands=False,
    )
    page = out / "missing-modality.md"
    page.write_text(_page(curves, seeds, command), encoding="utf-8")
    return page


def _page(curves: dict[str, dict[str, dict[float, list[float]]]], seeds: int, command: str) -> str:
    def rows(kind: str) -> list[list[str]]:
        return [[name, *(percent(curve[share]) for share in SHOWN)] for name, curve in curves[kind].items()]

    gains = []
    for name, curve in curves["with"].items():
        line = [name]
        for share in SHOWN:
            pairs = zip(curve[share], curves["without"][name][share], strict=True)
            line.append(points(*t_interval([trained - plain for trained, plain in pairs])))
        gains.append(line)
    head = ["missing with probability", *(f"{share:.1f}" for share in SHOWN)]
    about = f"""The networks, data and splits are those of [CMU-MOSI](mosi.md) with context encoders. On the test videos
        each modality of each video is missing with the probability given; where all three were, one at random stays.
        {DRAWS} draws a share, the same for every network; {seeds} seeds. With modality dropout, training drops each
        modality of a conversation with a probability that grows from 0 to {DROP} over the first half of the epochs.
        Figures are percent, the mean over seeds ± the half width of its 95 % interval (Student's t)."""
    return f"""# Missing modalities

    {command}

{paragraph(about)}

![Accuracy against the probability that a modality is missing](pictures/missing-modality.png)

## Without modality dropout

{table(head, rows("without"))}

## With progressive modality dropout

{table(head, rows("with"))}

## What dropout changes, in points

{table(head, gains)}
"""
