"""Dropout for sequences."""

import torch.nn.functional as F
from torch import Tensor, nn


class LockedDropout(nn.Module):
    """Variational dropout (Gal and Ghahramani 2016): a sequence [B, T, D] loses the same units at every step."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        return x * F.dropout(x.new_ones(len(x), 1, x.shape[2]), self.p)


class WordDropout(nn.Module):
    """Drops whole steps of a sequence [B, T, D]: words of a text (Iyyer et al. 2015)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p:
            return x
        return x * F.dropout(x.new_ones(*x.shape[:2], 1), self.p)
