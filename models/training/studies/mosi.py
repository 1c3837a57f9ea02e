"""Every fusion on CMU-MOSI, beside single modalities, logistic regression, the majority and published figures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.files import replacing
from models.registry import FUSIONS
from models.training.studies.baselines import chosen_regression, majority
from models.training.studies.conversations import (
    MODALITIES,
    Batch,
    Conversation,
    collate,
    folds_by_video,
    load_conversations,
    mixed,
    standardized,
)
from models.training.studies.fitting import Plan, fit, score
from models.training.studies.mosi_page import STEPWISE, Report
from models.training.studies.network import ConversationNetwork

FUSIONS_TRIED: dict[str, dict[str, Any]] = {
    "concat": {"type": "concat", "width": 64},
    "weighted sum, fixed": {"type": "weighted-sum", "mode": "fixed", "width": 64},
    "weighted sum, learned": {"type": "weighted-sum", "mode": "learned", "width": 64},
    "weighted sum, gated": {"type": "weighted-sum", "mode": "gated", "width": 64},
    "decision, mean": {"type": "decision", "combine": "mean", "outputs": 2},
    "decision, weighted": {"type": "decision", "combine": "weighted", "outputs": 2},
    "decision, product": {"type": "decision", "combine": "product", "outputs": 2},
    "decision, stacked": {"type": "decision", "combine": "stacked", "outputs": 2},
    "tensor (TFN)": {"type": "tensor", "mode": "full", "size": 8, "width": 32},
    "tensor, low rank (LMF)": {"type": "tensor", "mode": "low-rank", "size": 16, "rank": 4, "width": 64},
    "cross-modal attention": {"type": "cross-modal-attention", "width": 64, "heads": 4},
    "memory (MFN)": {"type": "memory", "hidden": 32, "memory": 32, "inner": 32, "dropout": 0.5},
    "recurrent (EF-LSTM)": {"type": "recurrent", "hidden": 32},
    "contextual (bc-LSTM)": {"type": "contextual", "hidden": 64, "hierarchical": False},
}
PLAN = Plan()
FOLDS, MEMBERS = 5, 3
"""A run is ``MEMBERS`` networks, each stopped by another of so many folds; their probabilities are averaged."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The data of one network, standardized on ``train``."""

    train: list[Conversation]
    dev: list[Conversation]
    test: list[Conversation]


def prepare(data: Path, seed: int) -> list[Parts]:
    """The folds of a run: ``seed`` decides which training videos are for development in which of them."""
    test = load_conversations(data, "test")
    return [
        Parts(*standardized(train, dev, test))
        for train, dev in folds_by_video(load_conversations(data, "train"), FOLDS, seed=seed)[:MEMBERS]
    ]


def figures(scores: list[Tensor], batch: Batch) -> dict[str, Any]:
    """Accuracy, F1 (of both classes, weighted by how frequent they are), and what is right in each video.

    ``scores`` [N, 2] of each network of the run: the mean of their probabilities decides.
    """
    guesses, truth = torch.stack([each.softmax(1) for each in scores]).mean(0).argmax(1), batch.labels
    right = guesses == truth
    f1 = 0.0
    for label in (0, 1):
        of_class, guessed = truth == label, guesses == label
        both = of_class.sum() + guessed.sum()
        f1 += float(of_class.float().mean() * 2 * (of_class & guessed).sum() / both) if both else 0.0
    return {
        "accuracy": float(right.float().mean()),
        "f1": f1,
        "right": batch.videos.bincount(right.float()).int().tolist(),
        "utterances": batch.videos.bincount().tolist(),
    }


def fitted(
    parts: Parts,
    fusion: Mapping[str, Any],
    modalities: tuple[str, ...],
    plan: Plan,
    file: Path,
    *,
    context: bool,
    seed: int,
) -> tuple[ConversationNetwork, float]:
    """A network over some of the modalities, and its development loss; kept in ``file`` once trained."""
    torch.manual_seed(seed)
    sizes = {name: parts.train[0].features[name].shape[1] for name in modalities}
    network = ConversationNetwork(
        sizes,
        FUSIONS.parse(dict(fusion)),
        hidden=plan.hidden,
        dropout=plan.dropout,
        context=context,
    )
    if file.is_file():
        kept = torch.load(file, weights_only=True)
        network.load_state_dict(kept["weights"])
        return network.eval(), kept["loss"]
    network, losses = fit(network, parts.train, parts.dev, plan, seed=seed)
    loss = min(losses)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as written:
        torch.save({"weights": network.state_dict(), "loss": loss}, written)
    print(f"{file.stem}: loss {loss:.3f} on the development videos after {len(losses)} epochs", flush=True)
    return network, loss


def network_file(folder: Path, name: str, *, context: bool, seed: int, fold: int) -> Path:
    """Where the network of a fusion, or of a single modality, is kept."""
    words = "".join(letter if letter.isalnum() else "-" for letter in name)
    return folder / f"{'context' if context else 'alone'}-{words}-{seed}-{fold}.pt"


def run(data: Path, out: Path, *, seeds: int, quick: bool, command: str) -> Path:
    """Run everything with every seed, and write ``mosi.md`` into ``out``."""
    plan = Plan(epochs=1, hidden=4, dev_draws=1) if quick else PLAN
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        folds = prepare(data, seed)
        for name, result in _runs(folds, plan, out / ("quick" if quick else "runs") / "mosi", seed).items():
            rows.setdefault(name, []).append(result)
    page = out / "mosi.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    parts = folds[0]
    sizes = {
        split: (len(part), sum(len(conversation.labels) for conversation in part))
        for split, part in (("train", parts.train), ("dev", parts.dev), ("test", parts.test))
    }
    negatives = sum(int((each.labels == 0).sum()) for each in (*parts.train, *parts.dev, *parts.test))
    report = Report(rows, list(FUSIONS_TRIED), plan, MEMBERS, sizes, negatives, seeds, command)
    page.write_text(report.text(), encoding="utf-8")
    return page


def _runs(folds: list[Parts], plan: Plan, folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    tests = [collate(parts.test) for parts in folds]
    train = collate(folds[0].train)
    found = {"majority": figures([majority(train.labels, len(tests[0].labels))], tests[0])}
    for name, modalities in {"all three": MODALITIES, **{name: (name,) for name in MODALITIES}}.items():
        for label, mix in (("mixed", True), ("raw", False)):
            found[f"{label}: {name}"] = _regression(folds[0], modalities, plan, seed, mix=mix)
    tried: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
        name: (FUSIONS_TRIED["concat"], (name,)) for name in MODALITIES
    }
    tried |= {name: (fusion, MODALITIES) for name, fusion in FUSIONS_TRIED.items()}
    for context in (True, False):
        for name, (fusion, modalities) in tried.items():
            # Without context encoders: single modalities, the plainest fusion, and those that bring their own context.
            if not context and name not in (*MODALITIES, "concat", *STEPWISE):
                continue
            scores, losses = [], []
            for fold, (parts, test) in enumerate(zip(folds, tests, strict=True)):
                file = network_file(folder, name, context=context, seed=seed, fold=fold)
                network, loss = fitted(parts, fusion, modalities, plan, file, context=context, seed=FOLDS * seed + fold)
                scores.append(score(network, test))
                losses.append(loss)
            label = f"{'context' if context else 'alone'}: {name}"
            found[label] = figures(scores, tests[0]) | {"dev_loss": sum(losses) / len(losses)}
    return found


def _regression(parts: Parts, modalities: tuple[str, ...], plan: Plan, seed: int, *, mix: bool) -> dict[str, Any]:
    """Figures of logistic regression on test videos, with its accuracy on development videos."""
    generator = torch.Generator().manual_seed(seed)
    least = plan.mix if mix else {}
    train, dev = (
        collate([each for _ in range(plan.dev_draws) for each in mixed(part, least, generator)])
        for part in (parts.train, parts.dev)
    )
    regression = chosen_regression(_flat(train, modalities), train.labels, _flat(dev, modalities), dev.labels)
    test = collate(parts.test)
    with torch.no_grad():
        right = regression(_flat(dev, modalities)).argmax(1) == dev.labels
        return figures([regression(_flat(test, modalities))], test) | {"dev_accuracy": float(right.float().mean())}


def _flat(batch: Batch, modalities: tuple[str, ...]) -> Tensor:
    """Features [N, D] of the real utterances, all ``modalities`` side by side."""
    rows = []
    for name in modalities:
        padded = batch.inputs[name]
        rows.append(torch.cat([value[:length] for value, length in zip(padded.values, padded.lengths, strict=True)]))
    return torch.cat(rows, 1)
