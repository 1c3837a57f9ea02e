"""Single-modality heads that live in training only: each encoder is also taught by itself.

A fused loss alone lets the modality that learns fastest explain the targets, and leaves the others' encoders untrained
(Wang et al. 2020, "What Makes Training Multi-Modal Classification Networks Hard?").
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from models.encoded import Encoded


class AuxiliaryHeads(nn.Module):
    """One linear head a modality over its pooled vector; they are trained with the network and not saved with it."""

    def __init__(self, sizes: Mapping[str, int], outputs: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(size, outputs) for name, size in sorted(sizes.items())})

    def forward(self, encoded: Encoded) -> dict[str, Tensor]:
        """Scores [B, outputs] by modality in ``encoded``; those of rows without the modality mean nothing."""
        return {name: self.heads[name](output.pooled) for name, output in encoded.outputs.items()}

    def loss(self, encoded: Encoded, targets: Tensor, objective: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Mean over the modalities of ``objective(scores, targets)`` on the rows that have the modality.

        Args:
            targets: [B, ...], as the objective takes them.
        """
        losses = []
        for name, scores in self(encoded).items():
            here = encoded.outputs[name].lengths > 0
            if bool(here.any()):
                losses.append(objective(scores[here], targets[here]))
        return torch.stack(losses).mean()
