"""Recurrent cells as the textbook writes them, and a recurrent encoder on torch's fast kernels.

A cell keeps the part that needs only the input (``input``, which a caller may compute for a whole sequence at once)
apart from the part that needs the state (``recur``). Both know nothing of batching policy: rows are independent.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.sequence import SequenceOutput, length_mask, masked_mean
from models.state import State
from models.stepwise import StepLinear

CellName = Literal["elman", "gru", "lstm"]


class Cell(nn.Module, ABC):
    """One step of a recurrent network over rows [..., X] with a state of [..., H] tensors."""

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input = nn.Linear(input_size, self.gates * hidden_size)
        self.recurrent = StepLinear(hidden_size, self.gates * hidden_size, bias=False)
        bound = 1 / math.sqrt(hidden_size)
        nn.init.uniform_(self.input.weight, -bound, bound)
        nn.init.zeros_(self.input.bias)
        for block in self.recurrent.weight.data.chunk(self.gates):
            nn.init.orthogonal_(block)

    @abstractmethod
    def recur(self, projected: Tensor, state: State) -> State:
        """Next state from ``projected`` = W_x x + b [..., gates * H] and the last state."""

    def forward(self, x: Tensor, state: State) -> State:
        """Next state from the input ``x`` [..., X] and the last state; its ``h`` is the output."""
        return self.recur(self.input(x), state)


class ElmanCell(Cell):
    """h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h) (Elman 1990)."""

    gates = 1

    def recur(self, projected: Tensor, state: State) -> State:
        return {"h": torch.tanh(projected + self.recurrent(state["h"]))}


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate applied after the recurrent product as in cuDNN."""

    gates = 3

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.candidate_bias = nn.Parameter(torch.zeros(hidden_size))

    def recur(self, projected: Tensor, state: State) -> State:
        xr, xz, xn = projected.chunk(3, -1)
        hr, hz, hn = self.recurrent(state["h"]).chunk(3, -1)
        reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        candidate = torch.tanh(xn + reset * (hn + self.candidate_bias))
        return {"h": candidate + update * (state["h"] - candidate)}


class LSTMCell(Cell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gate; its bias starts at 1 (Gers 2000)."""

    gates = 4
    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        nn.init.ones_(self.input.bias.data[hidden_size : 2 * hidden_size])

    def recur(self, projected: Tensor, state: State) -> State:
        i, f, g, o = (projected + self.recurrent(state["h"])).chunk(4, -1)
        c = torch.addcmul(torch.sigmoid(f) * state["c"], torch.sigmoid(i), torch.tanh(g))
        return {"h": torch.sigmoid(o) * torch.tanh(c), "c": c}


CELLS: dict[CellName, type[Cell]] = {"elman": ElmanCell, "gru": GRUCell, "lstm": LSTMCell}


class RecurrentEncoder(nn.Module):
    """Layers of one cell over a padded sequence, on torch's kernels, with the state in and out.

    A bidirectional encoder runs its backward layers over each row's own reversed prefix, so padding never reaches a
    real step; it cannot continue from a state, and says so.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, cell: CellName = "gru", layers: int = 1, bidirectional: bool = False
    ) -> None:
        super().__init__()
        self.cell = cell
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.output_size = hidden_size * (2 if bidirectional else 1)
        kernel = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.layers = nn.ModuleList()
        for layer in range(layers):
            size = input_size if layer == 0 else self.output_size
            directions = [kernel(size, hidden_size, batch_first=True) for _ in range(2 if bidirectional else 1)]
            for direction in directions:
                _initialize(direction, CELLS[cell].gates, hidden_size)
            self.layers.append(nn.ModuleList(directions))

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The all-zero state of ``rows`` rows: ``h{layer}`` and, for LSTM, ``c{layer}``, each [rows, H]."""
        names = [f"{name}{layer}" for layer in range(len(self.layers)) for name in CELLS[self.cell].state_names]
        return {name: torch.zeros(rows, self.hidden_size, device=device) for name in names}

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode ``x`` [B, T, X] of ``lengths`` [B], going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to a bidirectional encoder, whose backward half needs the sequence's end.
        """
        if self.bidirectional and state is not None:
            raise ValueError("a bidirectional encoder needs the whole sequence and cannot go on from a state")
        before = self.initial_state(len(x), x.device) if state is None else state
        after: State = {}
        for layer, directions in enumerate(self.layers):
            outputs = []
            assert isinstance(directions, nn.ModuleList)
            for backward, kernel in enumerate(directions):
                inputs = _reverse_prefix(x, lengths) if backward else x
                output, final = self._run(kernel, layer, inputs, lengths, before)
                outputs.append(_reverse_prefix(output, lengths) if backward else output)
                if not backward:
                    after |= final
            x = torch.cat(outputs, 2) * length_mask(lengths, x.shape[1]).unsqueeze(2)
        return SequenceOutput(x, lengths, masked_mean(x, lengths), {} if self.bidirectional else after)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, X], all steps real -> (outputs [B, t, H], state); equal to ``forward`` in one go."""
        lengths = torch.full((len(x),), x.shape[1], dtype=torch.int64, device=x.device)
        output = self(x, lengths, state)
        return output.sequence, output.state

    def _run(self, kernel: nn.Module, layer: int, x: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        names = [f"{name}{layer}" for name in CELLS[self.cell].state_names]
        initial = tuple(state[name].unsqueeze(0) for name in names)
        full = int(lengths.min()) == x.shape[1]
        # Packing stops each row's recurrence at its own end; rows of length 0 cannot be packed and keep their state.
        packed = (
            x
            if full
            else nn.utils.rnn.pack_padded_sequence(
                x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
            )
        )
        output, final = kernel(packed, initial if len(initial) > 1 else initial[0])
        if not full:
            output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])
        finals = final if len(initial) > 1 else (final,)
        ran = (lengths > 0).unsqueeze(1)
        return output, {
            name: torch.where(ran, value.squeeze(0), state[name]) for name, value in zip(names, finals, strict=True)
        }


def _initialize(kernel: nn.RNNBase, gates: int, hidden_size: int) -> None:
    for name, parameter in kernel.named_parameters():
        if name.startswith("weight_hh"):
            for block in parameter.data.chunk(gates):
                nn.init.orthogonal_(block)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)
            if gates == LSTMCell.gates and name.startswith("bias_ih"):
                nn.init.ones_(parameter.data[hidden_size : 2 * hidden_size])


def _reverse_prefix(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row's first ``lengths[b]`` steps in reverse order; the padding stays where it is."""
    steps = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    mirrored = torch.where(steps < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - steps, steps)
    return x.gather(1, mirrored.unsqueeze(2).expand_as(x))
