"""Memory fusion network (Zadeh et al. 2018, "Memory Fusion Network for Multi-view Sequential Learning").

One LSTM a modality, an attention over their memories before and after each step, which finds what changed together,
and a gated memory that keeps it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.cells import LSTMCell
from models.fusion.alignment import Alignment, Interpolation
from models.fusion.presence import complete, shares
from models.pooling import Pooling
from models.registry import FUSIONS, FusionConfig
from models.sequence import FusionOutput, SequenceOutput, full_lengths, length_mask, masked_mean
from models.state import State, part, under


class MemoryConfig(FusionConfig):
    """Sizes of a ``memory`` fusion."""

    type: Literal["memory"] = "memory"
    hidden: int = Field(64, ge=1, le=4096, description="Size of each modality's LSTM")
    memory: int = Field(64, ge=1, le=4096, description="Size of the gated memory")
    inner: int = Field(64, ge=1, le=4096, description="Units of the hidden layers of attention, proposal and gates")
    interpolation: Interpolation = Field("nearest", description="How slower modalities are read at the common steps")
    dropout: float = Field(0.0, ge=0, lt=1, description="On those hidden layers")

    stepwise: ClassVar[bool] = True

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

    causal = True

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
        self.mass = Pooling("mean", len(sizes))

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The state of ``rows`` rows before their first step: h and c of all LSTMs, the memory u, and the attention."""
        sizes = {"h": len(self.modalities) * self.hidden, "c": len(self.modalities) * self.hidden, "u": self.memory}
        weight = next(self.parameters())
        state = {name: weight.new_zeros(rows, size, device=device) for name, size in sizes.items()}
        return state | under("mass", self.mass.initial_state(rows, device))

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' sequences where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        steps = self.align(inputs, present)
        before = self.initial_state(len(present), present.device)
        sequence, mass, _ = self._remember(steps.values, before)
        real = length_mask(steps.lengths, sequence.shape[1]).unsqueeze(2)
        sequence = sequence * real
        rows = torch.arange(len(sequence), device=sequence.device)
        fused = sequence[rows, steps.lengths - 1]
        output = SequenceOutput(sequence, steps.lengths, fused)
        return FusionOutput(fused, lambda: shares(masked_mean(mass, steps.lengths), present), output)

    def step(self, inputs: Mapping[str, SequenceOutput], present: Tensor, state: State) -> tuple[FusionOutput, State]:
        """One chunk of every modality's sequence, all steps real; equal to ``forward`` in one go.

        ``sequence`` has the chunk's steps; ``fused`` and ``contributions`` are those of everything so far.

        Raises:
            ValueError: a row has no modality, or present ones differ in steps.
        """
        complete(present)
        values = self.align.step(inputs, present)
        held = part(state, "mass")
        if not values[0].shape[1]:
            sequence, after = values[0].new_zeros(len(present), 0, self.output_size), state
            mean = held["pooled"]
        else:
            sequence, mass, after = self._remember(values, state)
            mean, held = self.mass.step(mass, held)
        fused = torch.cat([after["h"], after["u"]], 1)
        fusion = FusionOutput(
            fused, lambda: shares(mean, present), SequenceOutput(sequence, full_lengths(sequence), fused)
        )
        return fusion, after | under("mass", held)

    def _remember(self, values: list[Tensor], before: State) -> tuple[Tensor, Tensor, State]:
        """The fused steps [B, T, F], the attention on each modality's memory at each of them [B, T, M], and h, c, u."""
        hidden, memories = self._run(values, before)
        # The LSTMs do not read the memory, so everything but its own recurrence is one product over all steps.
        delta = torch.cat([torch.cat([before["c"].unsqueeze(1), memories[:, :-1]], 1), memories], 2)
        attention = self.attention(delta).softmax(2)
        kept = self._keep(attention * delta, before["u"])
        mass = attention.unflatten(2, (2, len(values), self.hidden)).sum((2, 4))
        after = {"h": hidden[:, -1], "c": memories[:, -1], "u": kept[:, -1]}
        return torch.cat([hidden, kept], 2), mass, after

    def _run(self, values: list[Tensor], before: State) -> tuple[Tensor, Tensor]:
        """Each LSTM over its modality's steps: all outputs and all memories, [B, T, M * hidden] each."""
        cells: list[Any] = list(self.cells.values())
        projected = torch.stack([cell.input(value) for cell, value in zip(cells, values, strict=True)])
        weights = torch.stack([cell.recurrent.weight.t() for cell in cells])
        # All LSTMs take a step at once: [M, B, hidden].
        h, c = (before[name].reshape(-1, len(cells), self.hidden).transpose(0, 1) for name in ("h", "c"))
        hidden, memories = [], []
        for inputs in projected.unbind(2):
            gates = torch.baddbmm(inputs, h, weights)
            i, f, _, o = torch.sigmoid(gates).chunk(4, 2)
            c = torch.addcmul(f * c, i, torch.tanh(gates[..., 2 * self.hidden : 3 * self.hidden]))
            h = o * torch.tanh(c)
            hidden.append(h)
            memories.append(c)
        flat = [torch.stack(part, 2).permute(1, 2, 0, 3).flatten(2) for part in (hidden, memories)]
        return flat[0], flat[1]

    def _keep(self, attended: Tensor, before: Tensor) -> Tensor:
        """The gated memory after each step [B, T, memory]."""
        retain = torch.sigmoid(self.retain(attended)).unbind(1)
        written = (torch.sigmoid(self.write(attended)) * torch.tanh(self.proposal(attended))).unbind(1)
        kept = [before]
        for gate, new in zip(retain, written, strict=True):
            kept.append(torch.addcmul(new, gate, kept[-1]))
        return torch.stack(kept[1:], 1)


def _network(inputs: int, outputs: int, config: MemoryConfig) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, config.inner), nn.Tanh(), nn.Dropout(config.dropout), nn.Linear(config.inner, outputs)
    )
