"""Fitting a conversation network: early stopping on development videos, averaged weights, modality dropout."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.fusion.decision import DecisionFusion
from models.training.studies.calibration import calibrate
from models.training.studies.conversations import Batch, Conversation, collate, mixed
from models.training.studies.network import ConversationNetwork

ModalityDropout = Literal["none", "constant", "progressive"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How networks are trained; the same for all, chosen on development videos."""

    hidden: int = 32
    dropout: float = 0.5
    rate: float = 3e-3
    weight_decay: float = 0.03
    epochs: int = 40
    patience: int = 10
    conversations: int = 10
    dev_draws: int = 4
    averaging: float = 0.95
    auxiliary: float = 0.3
    of_votes: float = 1.0
    modality_dropout: ModalityDropout = "none"
    drop: float = 0.3
    mix: Mapping[str, float] = field(default_factory=lambda: {"text": 0.0, "video": 0.4})


def fit(
    network: ConversationNetwork, train: list[Conversation], dev: list[Conversation], plan: Plan, *, seed: int
) -> tuple[ConversationNetwork, list[float]]:
    """Train ``network`` and return the average of its weights at the best epoch, and the loss on ``dev`` by epoch."""
    generator = torch.Generator().manual_seed(seed)
    parameters: list[torch.Tensor] = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, plan.rate, weight_decay=plan.weight_decay, fused=True)
    averaged = copy.deepcopy(network)
    averages: list[torch.Tensor] = list(averaged.parameters())
    held_out = collate(
        [each for _ in range(plan.dev_draws) for each in mixed(dev, plan.mix, generator)], network.modalities
    )
    losses: list[float] = []
    updates = 0
    best: ConversationNetwork = network
    for epoch in range(plan.epochs):
        network.train()
        drawn = mixed(train, plan.mix, generator)
        order = torch.randperm(len(train), generator=generator)
        for places in torch.split(order, plan.conversations):
            batch = collate([drawn[place] for place in places.tolist()], network.modalities)
            share = drop_share(plan, epoch)
            present = draw_present(len(places), len(network.modalities), share, generator)
            scores, alone = network(batch.inputs, present)
            own = sum((F.cross_entropy(each, batch.labels) for each in alone.values()), torch.zeros(()))
            weight = plan.of_votes if network.mixes else plan.auxiliary
            loss = F.cross_entropy(scores, batch.labels) + weight * own
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - (plan.averaging if updates else 0.0))
            updates += 1
        losses.append(float(F.cross_entropy(score(averaged, held_out), held_out.labels)))
        if losses[-1] <= min(losses):
            best = copy.deepcopy(averaged)
        if len(losses) - 1 - losses.index(min(losses)) >= plan.patience:
            break
    if isinstance(best.fusion, DecisionFusion):
        calibrate(best, held_out)
    return best.eval(), losses


@torch.no_grad()
def score(network: ConversationNetwork, batch: Batch, present: Tensor | None = None) -> Tensor:
    """Class scores [N, 2] of the batch's utterances, with every modality unless ``present`` [B, M] says otherwise."""
    if present is None:
        rows = len(next(iter(batch.inputs.values())).lengths)
        present = torch.ones(rows, len(network.modalities), dtype=torch.bool)
    scores: Tensor = network.eval()(batch.inputs, present)[0]
    return scores


def drop_share(plan: Plan, epoch: int) -> float:
    """How likely a modality is to be dropped: progressive dropout grows over the first half of the epochs."""
    if plan.modality_dropout == "none":
        return 0.0
    return plan.drop * (min(1.0, 2 * epoch / plan.epochs) if plan.modality_dropout == "progressive" else 1.0)


def draw_present(rows: int, modalities: int, share: float, generator: torch.Generator) -> Tensor:
    """Bool [rows, modalities]: each false with probability ``share``; where all were, one of them stays."""
    present = torch.rand(rows, modalities, generator=generator) >= share
    kept = torch.randint(modalities, (rows,), generator=generator)
    rescued = torch.nn.functional.one_hot(kept, modalities).bool() & ~present.any(1, keepdim=True)
    return present | rescued
