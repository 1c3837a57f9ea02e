"""Additive attention over a memory of regions, frames or tokens (Bahdanau et al. 2015, eq. 5-6)."""

import torch
from torch import Tensor, nn

from models.stepwise import StepLinear


class AdditiveAttention(nn.Module):
    """score(q, m) = v . tanh(W_q q + W_m m), softmax over the real entries of the memory."""

    def __init__(self, query_size: int, memory_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = StepLinear(query_size, attention_size)
        self.memory = nn.Linear(memory_size, attention_size, bias=False)
        self.score = nn.Linear(attention_size, 1, bias=False)

    def keys(self, memory: Tensor) -> Tensor:
        """W_m m for ``memory`` [B, N, D] -> [B, N, A]: needed once, however many steps follow."""
        projected: Tensor = self.memory(memory)
        return projected

    def forward(self, query: Tensor, keys: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attend from ``query`` [B, K, A], which is W_q q, to ``memory`` [B, N, D] where ``mask`` [B, N] is true.

        Returns the context [B, K, D] and the weights [B, K, N], which sum to 1.
        """
        energy = torch.tanh(query.unsqueeze(2) + keys.unsqueeze(1))
        scores = self.score(energy).squeeze(3).masked_fill(~mask.unsqueeze(1), float("-inf"))
        weights = scores.softmax(2)
        return weights @ memory, weights
