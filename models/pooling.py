"""A sequence to one vector."""

from typing import Literal

import torch
from torch import Tensor, nn

from models.sequence import length_mask
from models.state import State

PoolingName = Literal["mean", "last", "attention"]


class Pooling(nn.Module):
    """Sequences [B, T, D] of ``lengths`` [B] -> [B, D]; zeros for a row of length 0.

    ``mean`` over the real steps; the ``last`` of them, which for a bidirectional network's backward half is the first;
    or ``attention``, the mean under weights softmax(u . tanh(W h_t + b)) (Yang et al. 2016, eq. 5-7).
    """

    def __init__(self, method: PoolingName, size: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.method = method
        self.size = size
        self.bidirectional = bidirectional
        if method == "attention":
            self.hidden = nn.Linear(size, size)
            self.score = nn.Linear(size, 1, bias=False)

    def forward(self, sequence: Tensor, lengths: Tensor | None) -> Tensor:
        """Pool the real steps, or all if ``lengths`` is None; padded steps must hold something finite."""
        if not sequence.shape[1]:
            return sequence.sum(1)
        if lengths is None:
            return self._all(sequence)
        if self.method == "last":
            return self._last(sequence, lengths) * (lengths > 0).unsqueeze(1)
        mask = length_mask(lengths, sequence.shape[1])
        if self.method == "mean":
            weights = mask / lengths.clamp(min=1).unsqueeze(1)
        else:
            scores = self.scores(sequence)
            # The least finite number and not -inf: the softmax of a row without steps must not be NaN.
            weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(1) * mask
        mixed: Tensor = weights.to(sequence.dtype).unsqueeze(1) @ sequence
        return mixed.squeeze(1)

    def scores(self, sequence: Tensor) -> Tensor:
        """[B, T], by whose softmax steps are weighed against one another: all alike, but for ``attention``."""
        if self.method != "attention":
            return sequence.new_zeros(sequence.shape[:2])
        scores: Tensor = self.score(torch.tanh(self.hidden(sequence))).squeeze(2)
        return scores

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """Nothing pooled yet: ``pooled`` [rows, D], and what weighs it against the steps to come."""
        state = {"pooled": torch.zeros(rows, self.size, device=device)}
        if self.method == "mean":
            state["count"] = torch.zeros(rows, dtype=torch.int64, device=device)
        elif self.method == "attention":
            state["weight"] = torch.zeros(rows, device=device)
            state["most"] = torch.full((rows,), torch.finfo(torch.float32).min, device=device)
        return state

    def step(self, sequence: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk [B, t, D], all steps real -> (all steps so far pooled [B, D], state); equal to ``forward``.

        Raises:
            ValueError: the pooling is of a bidirectional network.
        """
        if self.bidirectional:
            raise ValueError("the outputs of a bidirectional network come all at once, so there is no pooling by step")
        before = state["pooled"]
        if not sequence.shape[1]:
            return before, state
        if self.method == "last":
            state = {"pooled": sequence[:, -1]}
        elif self.method == "mean":
            count = state["count"] + sequence.shape[1]
            change = (sequence - before.unsqueeze(1)).sum(1) / count.unsqueeze(1)
            state = {"pooled": before + change, "count": count}
        else:
            scores = self.scores(sequence)
            # The softmax over all steps so far, kept relative to the highest score of them.
            most = torch.maximum(state["most"], scores.amax(1))
            old, new = state["weight"] * (state["most"] - most).exp(), (scores - most.unsqueeze(1)).exp()
            weight = old + new.sum(1)
            mixed = old.unsqueeze(1) * before + (new.unsqueeze(1) @ sequence).squeeze(1)
            state = {"pooled": mixed / weight.unsqueeze(1), "weight": weight, "most": most}
        return state["pooled"], state

    def _all(self, sequence: Tensor) -> Tensor:
        if self.method == "mean":
            return sequence.mean(1)
        if self.method == "last":
            return self._both_ends(sequence, sequence[:, -1])
        return (self.scores(sequence).softmax(1).unsqueeze(1) @ sequence).squeeze(1)

    def _last(self, sequence: Tensor, lengths: Tensor) -> Tensor:
        rows = torch.arange(len(lengths), device=lengths.device)
        return self._both_ends(sequence, sequence[rows, (lengths - 1).clamp(min=0)])

    def _both_ends(self, sequence: Tensor, last: Tensor) -> Tensor:
        if not self.bidirectional:
            return last
        half = sequence.shape[2] // 2
        return torch.cat([last[:, :half], sequence[:, 0, half:]], 1)
