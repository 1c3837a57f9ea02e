"""What heads of numbers share: they work at unit scale, and answer in the data's own unit."""

import torch
from torch import Tensor, nn


class NumbersHead(nn.Module):
    """y = mean + std * x; ``mean`` and ``std`` [outputs] are the training targets', and belong to the weights.

    So what is learned works on targets of unit scale, whatever the data's unit, and the answer is in that unit.
    """

    mean: Tensor
    std: Tensor

    def hold_unit(self, outputs: int) -> None:
        """Begin with the unit as it is: mean 0 and std 1."""
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("std", torch.ones(outputs))

    @torch.no_grad()
    def fit(self, targets: Tensor) -> None:
        """Take ``mean`` and ``std`` from the training ``targets`` [N, outputs], N >= 1; a constant keeps std 1.

        Raises:
            ValueError: the targets' number of columns is not the head's, or one of them is not finite.
        """
        outputs = len(self.mean)
        if targets.ndim != 2 or targets.shape[1] != outputs or not len(targets):
            raise ValueError(f"targets have shape {tuple(targets.shape)}: give [N, {outputs}], N >= 1")
        if not bool(targets.isfinite().all()):
            raise ValueError("a target is NaN or infinite: leave its example out")
        mean, std = unit_of(targets)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def in_unit(self, standard: Tensor) -> Tensor:
        """Numbers [..., outputs] of unit scale, in the data's unit."""
        return self.mean + self.std * standard


def unit_of(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [K], in float64, of targets [N, K]; 1 where all are equal."""
    # In float32 the mean of equal numbers need not be that number, and squares overflow from 1e19 on.
    exact = targets.double()
    varies = exact.amax(0) > exact.amin(0)
    return exact.mean(0), torch.where(varies, exact.std(0, correction=0), 1.0)
