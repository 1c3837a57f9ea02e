"""Combining decisions on videos that the deciding networks have not learned from.

A modality that has learned its training videos by heart is as sure of itself as one that understood them, and in a mean
of probabilities it drowns the others. On other videos it is found out. So each modality's votes get a temperature (Guo
et al. 2017, "On Calibration of Modern Neural Networks", sec. 4.2), and the rule's own weights are learned, there: it is
what stacked generalization asks for (Wolpert 1992).
"""

import torch
import torch.nn.functional as F
from torch import nn

from models.fusion.decision import DecisionFusion
from models.training.studies.conversations import Batch
from models.training.studies.network import ConversationNetwork

RIDGE = 0.001
"""Weight of the squared change against the mean loss of an utterance."""


def calibrate(network: ConversationNetwork, held_out: Batch) -> None:
    """Fit temperatures and the rule's weights of a network with a fusion of decisions to ``held_out``, in place.

    The temperatures go into the last layer of the modalities' heads, whose logits they divide.
    """
    fusion = network.fusion
    assert isinstance(fusion, DecisionFusion)
    rows = len(next(iter(held_out.inputs.values())).lengths)
    with torch.no_grad():
        votes, present = network.eval().votes(
            held_out.inputs, torch.ones(rows, len(network.modalities), dtype=torch.bool)
        )
    scales = torch.zeros(len(network.modalities), requires_grad=True)
    own = [parameter for name, parameter in fusion.named_parameters() if not name.startswith("heads.")]
    before = [parameter.detach().clone() for parameter in own]
    optimizer = torch.optim.LBFGS([scales, *own], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        tempered = (votes * scales.exp().view(1, -1, 1)).log_softmax(2)
        change = sum(
            ((now - then).square().sum() for now, then in zip(own, before, strict=True)), scales.square().sum()
        )
        loss = F.cross_entropy(fusion.combined(tempered, present), held_out.labels) + RIDGE * change
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, scale in zip(network.modalities, scales.exp(), strict=True):
            last = [layer for layer in fusion.heads[name].modules() if isinstance(layer, nn.Linear)][-1]
            last.weight.mul_(scale)
            last.bias.mul_(scale)
