"""Recurrent cells as the textbook writes them.

A cell keeps the part that needs only the input (``input``, which a caller may compute for a whole sequence at once)
apart from the part that needs the state (``recur``). It knows nothing of batching policy: rows are independent.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.state import State
from models.stepwise import StepLinear

CellName = Literal["elman", "gru", "lstm"]
Nonlinearity = Literal["tanh", "relu"]
NONLINEARITIES: dict[Nonlinearity, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}


class Cell(nn.Module, ABC):
    """One step of a recurrent network over rows [..., X] with a state of [..., H] tensors."""

    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_size: int, hidden_size: int, *, bias: bool = True) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.input = nn.Linear(input_size, self.gates * hidden_size, bias)
        self.recurrent = StepLinear(hidden_size, self.gates * hidden_size, bias=False)
        bound = 1 / math.sqrt(hidden_size)
        nn.init.uniform_(self.input.weight, -bound, bound)
        if bias:
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
    """h_t = f(W_hx x_t + W_hh h_{t-1} + b_h), f being tanh (Elman 1990) or relu (Le et al. 2015).

    The network's output y_t = g(W_yh h_t + b_y) is a layer of its own, over the ``h`` of every step: the head's.
    """

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, nonlinearity: Nonlinearity = "tanh") -> None:
        super().__init__(input_size, hidden_size)
        self.nonlinearity = NONLINEARITIES[nonlinearity]

    def recur(self, projected: Tensor, state: State) -> State:
        return {"h": self.nonlinearity(projected + self.recurrent(state["h"]))}


class GRUCell(Cell):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate applied after the recurrent product as in cuDNN.

    r, z = sigma(W_x x + b + W_h h), n = tanh(W_xn x + b_n + r * (W_hn h + b_hn)), h_t = (1 - z) * n + z * h_{t-1}.
    """

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
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with forget gate; its bias starts at 1 (Gers 2000).

    i, f, o = sigma(W_x x + W_h h + b), g = tanh(...), c_t = f * c_{t-1} + i * g, h_t = o * tanh(c_t).
    """

    gates = 4
    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        nn.init.ones_(self.input.bias.data[hidden_size : 2 * hidden_size])

    def recur(self, projected: Tensor, state: State) -> State:
        i, f, g, o = (projected + self.recurrent(state["h"])).chunk(4, -1)
        c = torch.addcmul(torch.sigmoid(f) * state["c"], torch.sigmoid(i), torch.tanh(g))
        return {"h": torch.sigmoid(o) * torch.tanh(c), "c": c}


class LayerNormElmanCell(Cell):
    """h_t = f(LN(W_hx x_t + W_hh h_{t-1})) (Ba et al. 2016, eq. 4); the bias is the normalization's own."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int, nonlinearity: Nonlinearity = "tanh") -> None:
        super().__init__(input_size, hidden_size, bias=False)
        self.nonlinearity = NONLINEARITIES[nonlinearity]
        self.norm = nn.LayerNorm(hidden_size)

    def recur(self, projected: Tensor, state: State) -> State:
        return {"h": self.nonlinearity(self.norm(projected + self.recurrent(state["h"])))}


class LayerNormGRUCell(Cell):
    """GRU with W_x x and W_h h each layer-normalized (Ba et al. 2016, eq. 22-24), their 3 H numbers together.

    r, z and n of either product share one mean and variance; every number has its own gain and bias. In the paper's
    equations only the two gates are normalized together, 2 H numbers, and the candidate's H by themselves. z is the
    share of the last state, as in ``GRUCell``, and the paper's that of the candidate: they differ in the sign only.
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, bias=False)
        self.norm_input = nn.LayerNorm(self.gates * hidden_size)
        self.norm_recurrent = nn.LayerNorm(self.gates * hidden_size)

    def recur(self, projected: Tensor, state: State) -> State:
        xr, xz, xn = self.norm_input(projected).chunk(3, -1)
        hr, hz, hn = self.norm_recurrent(self.recurrent(state["h"])).chunk(3, -1)
        update = torch.sigmoid(xz + hz)
        candidate = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return {"h": candidate + update * (state["h"] - candidate)}


class LayerNormLSTMCell(Cell):
    """LSTM with W_x x, W_h h and the cell on its way out normalized (Ba et al. 2016, eq. 20-22)."""

    gates = 4
    state_names = ("h", "c")

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, bias=False)
        self.norm_input = nn.LayerNorm(self.gates * hidden_size)
        self.norm_recurrent = nn.LayerNorm(self.gates * hidden_size)
        self.norm_cell = nn.LayerNorm(hidden_size)
        nn.init.ones_(self.norm_input.bias.data[hidden_size : 2 * hidden_size])

    def recur(self, projected: Tensor, state: State) -> State:
        gates = self.norm_input(projected) + self.norm_recurrent(self.recurrent(state["h"]))
        i, f, g, o = gates.chunk(4, -1)
        c = torch.addcmul(torch.sigmoid(f) * state["c"], torch.sigmoid(i), torch.tanh(g))
        return {"h": torch.sigmoid(o) * torch.tanh(self.norm_cell(c)), "c": c}


CELLS: dict[CellName, type[Cell]] = {"elman": ElmanCell, "gru": GRUCell, "lstm": LSTMCell}
LAYER_NORM_CELLS: dict[CellName, type[Cell]] = {
    "elman": LayerNormElmanCell,
    "gru": LayerNormGRUCell,
    "lstm": LayerNormLSTMCell,
}
