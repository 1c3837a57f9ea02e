"""A sequence to one vector."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.sequence import length_mask

PoolingName = Literal["mean", "last", "attention"]


class Pooling(nn.Module):
    """Sequences [B, T, D] of ``lengths`` [B] -> [B, D]; zeros for a row of length 0.

    ``mean`` over the real steps; the ``last`` of them, which for a bidirectional network's backward half is the first;
    or ``attention``, the mean under weights softmax(u . tanh(W h_t + b)) (Yang et al. 2016, eq. 5-7).
    """

    def __init__(self, method: PoolingName, size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.method = method
        self.bidirectional = bidirectional
        if method == "attention":
            self.hidden = nn.Linear(size, size)
            self.score = nn.Linear(size, 1, bias=False)

    def forward(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        """Pool the real steps; what padded steps hold does not matter as long as it is finite."""
        if not sequence.shape[1]:
            return sequence.sum(1)
        if self.method == "last":
            return self._last(sequence, lengths) * (lengths > 0).unsqueeze(1)
        mask = length_mask(lengths, sequence.shape[1])
        if self.method == "mean":
            weights = mask / lengths.clamp(min=1).unsqueeze(1)
        else:
            scores = self.score(torch.tanh(self.hidden(sequence))).squeeze(2)
            # The least finite number and not -inf: the softmax of a row without steps must not be NaN.
            weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1) * mask
        mixed: Tensor = weights.to(sequence.dtype).unsqueeze(1) @ sequence
        return mixed.squeeze(1)

    def _last(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.arange(len(lengths), device=lengths.device)
        last = sequence[rows, (lengths - 1).clamp(min=0)]
        if not self.bidirectional:
            return last
        half = sequence.shape[2] // 2
        return torch.cat([last[:, :half], sequence[:, 0, half:]], 1)
