"""Memory fusion network (Zadeh et al. 2018, "Memory Fusion Network for Multi-view Sequential Learning").

One LSTM a modality, an attention over their memories before and after each step, which finds what changed together,
and a gated memory that keeps it.
"""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.alignment import Alignment, Interpolation
from models.fusion.presence import require_some, shares
from models.registry import FUSIONS, FusionConfig
from models.rnn import LSTMCell
from models.sequence import FusionOutput, SequenceOutput, length_mask, masked_mean
from models.stepwise import unrolled


class MemoryConfig(FusionConfig):
    """Sizes of a ``memory`` fusion."""

    type: Literal["memory"] = "memory"
    hidden: int = Field(64, ge=1, le=4096, description="Size of each modality's LSTM")
    memory: int = Field(64, ge=1, le=4096, description="Size of the gated memory")
    inner: int = Field(64, ge=1, le=4096, description="Units of the hidden layers of attention, proposal and gates")
    interpolation: Interpolation = Field("nearest", description="How slower modalities are read at the common steps")
    dropout: float = Field(0.0, ge=0, lt=1, description="On those hidden layers")

    @classmethod
    def tiny(cls) -> Self:
        return cls(hidden=4, memory=5, inner=6)


@FUSIONS.register("memory", MemoryConfig)
class MemoryFusion(nn.Module):
    """The last states of the LSTMs and of the memory: fused = [h_1; ...; h_M; u], in ``sequence`` for every step.

    With c_t = [c_1,t; ...; c_M,t], the memories of all LSTMs, and two-layer networks D (one tanh layer inside):

        a_t = softmax(D_a([c_{t-1}; c_t]))      delta-memory attention
        s_t = a_t * [c_{t-1}; c_t]
        u_t = sigmoid(D_r(s_t)) * u_{t-1} + sigmoid(D_w(s_t)) * tanh(D_u(s_t))      multi-view gated memory

    The steps are the modalities' common steps; at each of them an absent modality is a learned vector of its own. A
    modality's contribution is the attention a_t that falls on its memory, averaged over the row's steps, as a share of
    all present ones.
    """

    def __init__(self, config: MemoryConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = sorted(sizes)
        self.hidden, self.memory = config.hidden, config.memory
        memories = len(sizes) * config.hidden
        self.output_size = self.sequence_size = memories + config.memory
        self.align = Alignment(sizes, config.interpolation)
        self.cells = nn.ModuleDict({name: LSTMCell(sizes[name], config.hidden) for name in self.modalities})
        self.attention = _network(2 * memories, 2 * memories, config)
        self.proposal = _network(2 * memories, config.memory, config)
        self.retain = _network(2 * memories, config.memory, config)
        self.write = _network(2 * memories, config.memory, config)

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' sequences where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        require_some(present)
        steps = self.align(inputs, present)
        hidden, memories = self._remember(steps.values)
        # The LSTMs do not read the memory, so everything but its own recurrence is one product over all steps.
        delta = torch.cat([nn.functional.pad(memories[:, :-1], (0, 0, 1, 0)), memories], 2)
        attention = self.attention(delta).softmax(2)
        attended = attention * delta
        memory = self._keep(attended)
        real = length_mask(steps.lengths, hidden.shape[1]).unsqueeze(2)
        sequence = torch.cat([hidden, memory], 2) * real
        rows = torch.arange(len(sequence), device=sequence.device)
        fused = sequence[rows, steps.lengths - 1]
        mass = masked_mean(attention, steps.lengths).view(-1, 2, len(self.modalities), self.hidden).sum((1, 3))
        return FusionOutput(fused, shares(mass, present), SequenceOutput(sequence, steps.lengths, fused))

    def _remember(self, values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Each LSTM over its modality's steps: all outputs and all memories, [B, T, M * hidden] each."""
        hidden, memories = [], []
        with unrolled(self):
            for name, value in zip(self.modalities, values, strict=True):
                cell = self.cells[name]
                assert isinstance(cell, LSTMCell)
                states = [dict.fromkeys(cell.state_names, value.new_zeros(len(value), self.hidden))]
                for projected in cell.input(value).unbind(1):
                    states.append(cell.recur(projected, states[-1]))
                hidden.append(torch.stack([state["h"] for state in states[1:]], 1))
                memories.append(torch.stack([state["c"] for state in states[1:]], 1))
        return torch.cat(hidden, 2), torch.cat(memories, 2)

    def _keep(self, attended: Tensor) -> Tensor:
        """The gated memory after each step [B, T, memory]."""
        retain = torch.sigmoid(self.retain(attended)).unbind(1)
        written = (torch.sigmoid(self.write(attended)) * torch.tanh(self.proposal(attended))).unbind(1)
        kept = [torch.zeros_like(written[0])]
        for gate, new in zip(retain, written, strict=True):
            kept.append(torch.addcmul(new, gate, kept[-1]))
        return torch.stack(kept[1:], 1)


def _network(inputs: int, outputs: int, config: MemoryConfig) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, config.inner), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(config.inner, outputs)
    )
