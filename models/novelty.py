"""How new to a network a medium is: how far from all that it learned from, as its encoder sees it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from models.files import replacing
from models.stored import StoredError, read_tensors, shapes

KNOWN = 0.98
"""The share of held-back media, of the kind that was learned from, that are not called new."""


class Novelty(nn.Module):
    """The distance of an encoder's pooled vector from those of the training media, 1 where the unknown begins.

    Vectors of length 1 are taken for draws from a Gaussian that has ``directions`` variances of its own and one for all
    other directions (probabilistic PCA, Tipping and Bishop 1999). The distance is Mahalanobis's, squared (Lee et al.
    2018); without the vectors' lengths, strange media stand out more (Mueller and Hein 2025).

    Args:
        size: of the vectors.
        directions: at most ``size``.
    """

    def __init__(self, size: int, directions: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(directions, size))
        self.register_buffer("precision", torch.ones(directions + 1))
        self.register_buffer("limit", torch.ones(()))

    mean: Tensor
    axes: Tensor
    precision: Tensor
    """[directions + 1]: one over the variance along each axis, and along any other direction."""
    limit: Tensor
    """The squared distance that only 2 % of known media that were held back exceed."""

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, size] -> [B], 0 and more, above 1 where it is new: vectors that are no numbers are as new as can be."""
        return torch.nan_to_num(self.distance(pooled) / self.limit, nan=torch.finfo(torch.float32).max)

    def distance(self, pooled: Tensor) -> Tensor:
        """[B, size] -> [B], before it is measured by the limit."""
        apart = F.normalize(pooled, dim=1) - self.mean
        along = (apart @ self.axes.T).square()
        other = (apart.square().sum(1) - along.sum(1)).clamp(min=0)
        return along @ self.precision[:-1] + other * self.precision[-1]

    @classmethod
    @torch.no_grad()
    def fit(cls, known: Tensor, held: Tensor, directions: int) -> Self:
        """What vectors of training media say, with its limit where only 2 % of ``held`` are beyond.

        Args:
            known: [N, size], N above ``directions``.
            held: [M, size], of media of the same kind that were not learned from.
        """
        rows = F.normalize(known.double(), dim=1)
        found = cls(known.shape[1], directions).to(known.device)
        mean = rows.mean(0)
        _, lengths, axes = torch.linalg.svd(rows - mean, full_matrices=False)
        variances = lengths.square() / len(rows)
        others = max(known.shape[1] - directions, 1)
        # What does not vary at all is given a hair, so that leaving it counts for much and not for infinity.
        least = (variances.sum() / known.shape[1] * 1e-4).clamp(min=1e-9)
        spread = torch.cat([variances[:directions], variances[directions:].sum().view(1) / others]).clamp(min=least)
        found.mean.copy_(mean)
        found.axes.copy_(axes[:directions])
        found.precision.copy_(1 / spread)
        # Of an encoder that gives one vector, whatever it sees, all distances are 0.
        found.limit.copy_(torch.quantile(found.distance(held), KNOWN, interpolation="higher").clamp(min=1e-3))
        return found


def save_novelty(path: Path, novelty: Mapping[str, Novelty]) -> None:
    """Write what ``load_novelty`` reads; where there is nothing to write, no file is left.

    Raises:
        OSError: the file cannot be written.
    """
    if not novelty:
        path.unlink(missing_ok=True)
        return
    tensors = {name: value.cpu().contiguous() for name, value in nn.ModuleDict(novelty).state_dict().items()}
    with replacing(path) as written:
        written.write_bytes(save(tensors))


def load_novelty(path: Path, sizes: Mapping[str, int]) -> dict[str, Novelty]:
    """What ``save_novelty`` wrote for modalities whose vectors are of these ``sizes``; not all need be there.

    Raises:
        StoredError: the file is not of such a network, or damaged.
    """
    there = shapes(path)
    found = {}
    for name in sorted({key.partition(".")[0] for key in there}):
        if name not in sizes:
            raise StoredError(f"{path.name} knows '{name}', which the network does not take")
        axes = there.get(f"{name}.axes", ())
        if len(axes) != 2 or not 0 < axes[0] <= sizes[name]:
            raise StoredError(f"{path.name}, {name}.axes, has shape {axes} for vectors of {sizes[name]}")
        found[name] = Novelty(sizes[name], axes[0])
    together = nn.ModuleDict(found)
    together.load_state_dict(read_tensors(path, together.state_dict()), strict=True, assign=True)
    for name, fitted in found.items():
        if float(fitted.precision.min()) < 0 or float(fitted.limit) <= 0:
            raise StoredError(f"{path.name}, {name}, has a distance below 0")
    together.eval().requires_grad_(False)
    return found
