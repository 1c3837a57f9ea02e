"""On-the-fly gradient modulation with generalization enhancement, OGM-GE (Peng et al. 2022, "Balanced Multimodal
Learning via On-the-fly Gradient Modulation").

A modality that already tells the classes well gets smaller encoder gradients, so that the others can catch up.

The paper derives it for SGD. AdamW, by which ``fusionrnn train`` descends, divides a gradient by its own running size,
and so by whatever constant factor it was scaled with: there only a change of the factor slows an encoder down, until
that running size has followed, some thousand steps later. What remains is the noise, which is not scaled.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.encoded import Encoded
from models.network import FusionRNN


def unimodal_scores(scores: Mapping[str, Tensor], encoded: Encoded, targets: Tensor) -> dict[str, float]:
    """How well each modality tells the classes by itself: the mean probability of the right one (sec. 3.2).

    Args:
        scores: logits [B, C] by modality, as ``AuxiliaryHeads`` gives them.
        targets: int64 [B]. Rows without the modality do not count; a modality that no row has is left out.
    """
    found = {}
    for name, logits in scores.items():
        here = encoded.outputs[name].lengths > 0
        if bool(here.any()):
            right = logits.detach()[here].softmax(1).gather(1, targets[here].unsqueeze(1))
            found[name] = float(right.mean())
    return found


class GradientModulation:
    """Scales the gradients of each modality's encoder between ``backward`` and the optimizer's step.

    With s_u the score of modality u and rho_u = s_u / mean of the others' scores (for two modalities the paper's
    ratio), its encoder's gradients are multiplied by

        k_u = 1 - tanh(alpha * rho_u) where rho_u > 1, else 1   (sec. 3.2).

    ``noise`` is the enhancement (sec. 3.3): scaling also weakens the noise of stochastic gradients, which helps to
    generalize, so Gaussian noise of the gradient's own spread is added. Its covariance is taken as the variance over
    the elements of each tensor.
    """

    def __init__(self, alpha: float = 0.5, *, noise: bool = True) -> None:
        """``alpha`` >= 0 says how strongly; 0 changes nothing but the noise."""
        if alpha < 0:
            raise ValueError(f"alpha is {alpha}, but must not be negative")
        self.alpha = alpha
        self.noise = noise

    def coefficients(self, unimodal_scores: Mapping[str, float]) -> dict[str, float]:
        """k_u by modality; a single modality has none to be balanced against and keeps its gradients."""
        found = {}
        for name, score in unimodal_scores.items():
            others = [other for key, other in unimodal_scores.items() if key != name]
            ratio = score * len(others) / max(sum(others), 1e-12) if others else 1.0
            found[name] = 1 - float(torch.tanh(torch.tensor(self.alpha * ratio))) if ratio > 1 else 1.0
        return found

    @torch.no_grad()
    def modulate(
        self, network: FusionRNN, unimodal_scores: Mapping[str, float], generator: torch.Generator | None = None
    ) -> dict[str, float]:
        """Change the gradients of the encoders in place; returns the coefficients, for the log."""
        found = self.coefficients(unimodal_scores)
        for name, coefficient in found.items():
            for parameter in network.encoders[name].parameters():
                gradient = parameter.grad
                if gradient is None:
                    continue
                spread = float(gradient.std()) if gradient.numel() > 1 else 0.0
                gradient.mul_(coefficient)
                if self.noise:
                    drawn = torch.randn(gradient.shape, generator=generator, dtype=gradient.dtype)
                    gradient.add_(drawn.to(gradient.device), alpha=spread)
        return found
