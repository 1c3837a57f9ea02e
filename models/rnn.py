"""A recurrent encoder on torch's fast kernels, or on the literal cells where those have no kernel."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from models.cells import (
    CELLS,
    LAYER_NORM_CELLS,
    Cell,
    CellName,
    ElmanCell,
    GRUCell,
    LSTMCell,
    Nonlinearity,
)
from models.dropout import LockedDropout
from models.pooling import Pooling, PoolingName
from models.sequence import SequenceOutput, length_mask
from models.state import State
from models.stepwise import unrolled

__all__ = ["CELLS", "Cell", "CellName", "ElmanCell", "GRUCell", "LSTMCell", "LayerNorm", "RecurrentEncoder"]

LayerNorm = Literal["none", "output", "cell"]


class RecurrentEncoder(nn.Module):
    """Layers of one cell over a padded sequence, with the state in and out.

    A bidirectional encoder runs its backward layers over each row's own reversed prefix, so padding never reaches a
    real step; it cannot continue from a state, and says so.

    - ``dropout`` is variational (Gal and Ghahramani 2016): one mask a sequence on the input and on each layer's output.
    - ``weight_dropout`` drops recurrent weights, one mask a batch (DropConnect on W_hh, Merity et al. 2018).
    - ``layer_norm`` normalizes each layer's ``output``, or the gates inside the ``cell`` (Ba et al. 2016). The latter
      has no fast kernel: the literal cell is unrolled in Python, several times slower.
    - Recurrent weights start orthogonal, the LSTM's forget bias at 1.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        cell: CellName = "gru",
        nonlinearity: Nonlinearity = "tanh",
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        layer_norm: LayerNorm = "none",
        pooling: PoolingName = "mean",
    ) -> None:
        super().__init__()
        if nonlinearity != "tanh" and cell != "elman":
            raise ValueError(f"only the cell 'elman' has a nonlinearity to choose, not '{cell}'")
        if weight_dropout and layer_norm == "cell":
            raise ValueError("weight_dropout needs the fast kernels, which layer_norm 'cell' cannot use")
        self.cell = cell
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.weight_dropout = weight_dropout
        self.output_size = hidden_size * (2 if bidirectional else 1)
        self.dropout = LockedDropout(dropout)
        self.layers = nn.ModuleList()
        for layer in range(layers):
            size = input_size if layer == 0 else self.output_size
            build = _literal if layer_norm == "cell" else _kernel
            directions = [build(cell, nonlinearity, size, hidden_size) for _ in range(2 if bidirectional else 1)]
            self.layers.append(nn.ModuleList(directions))
        self.norms = nn.ModuleList(
            nn.LayerNorm(self.output_size) for _ in range(layers if layer_norm == "output" else 0)
        )
        self.pooling = Pooling(pooling, self.output_size, bidirectional=bidirectional)

    @property
    def causal(self) -> bool:
        """Whether no output depends on later steps, so that ``step`` can be used."""
        return not self.bidirectional

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The all-zero state of ``rows`` rows: ``h{layer}`` and, for LSTM, ``c{layer}``, each [rows, H]."""
        names = [name for layer in range(len(self.layers)) for name in self._names(layer)]
        return {name: torch.zeros(rows, self.hidden_size, device=device) for name in names}

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode ``x`` [B, T, X] of ``lengths`` [B], going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to a bidirectional encoder, whose backward half needs the sequence's end.
        """
        if self.bidirectional and state is not None:
            raise ValueError("a bidirectional encoder needs the whole sequence and cannot go on from a state")
        before = self.initial_state(len(x), x.device) if state is None else state
        if not x.shape[1]:
            sequence = x.new_zeros(len(x), 0, self.output_size)
            return SequenceOutput(sequence, lengths, sequence.sum(1), {} if self.bidirectional else before)
        shortest = int(lengths.min())
        padding = None if shortest == x.shape[1] else ~length_mask(lengths, x.shape[1]).unsqueeze(2)
        after: State = {}
        x = self.dropout(x)
        for layer, directions in enumerate(self.layers):
            assert isinstance(directions, nn.ModuleList)
            outputs = []
            for backward, runner in enumerate(directions):
                inputs = _reverse_prefix(x, lengths, padding) if backward else x
                output, final = self._run(
                    runner, inputs, lengths, padding, [before[name] for name in self._names(layer)]
                )
                outputs.append(_reverse_prefix(output, lengths, padding) if backward else output)
                if not backward:
                    after |= dict(zip(self._names(layer), final, strict=True))
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2)
            x = self.dropout(self.norms[layer](x) if self.norms else x)
            if padding is not None:
                x = x.masked_fill(padding, 0)
        if padding is not None and shortest == 0:
            ran = (lengths > 0).unsqueeze(1)
            after = {name: torch.where(ran, value, before[name]) for name, value in after.items()}
        return SequenceOutput(x, lengths, self.pooling(x, lengths), {} if self.bidirectional else after)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, X], all steps real -> (outputs [B, t, H], state); equal to ``forward`` in one go."""
        lengths = torch.full((len(x),), x.shape[1], dtype=torch.int64, device=x.device)
        output = self(x, lengths, state)
        return output.sequence, output.state

    def _names(self, layer: int) -> list[str]:
        return [f"{name}{layer}" for name in CELLS[self.cell].state_names]

    def _run(
        self, runner: nn.Module, x: Tensor, lengths: Tensor, padding: Tensor | None, state: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """One direction of a layer: outputs [B, T, H], and the state after each row's last real step."""
        if isinstance(runner, Cell):
            return _unroll(runner, x, padding, state)
        run: Callable[..., Any] = runner
        if self.training and self.weight_dropout:
            run = partial(_drop_connect, runner, self.weight_dropout)
        layered = [value.unsqueeze(0) for value in state]
        initial = layered[0] if len(layered) == 1 else tuple(layered)
        if padding is None:
            output, final = run(x, initial)
        else:
            # Packing stops each row's recurrence at its own end; what it takes for a row of length 0 is not used.
            sizes = lengths.clamp(min=1).cpu()
            packed = nn.utils.rnn.pack_padded_sequence(x, sizes, batch_first=True, enforce_sorted=False)
            packed, final = run(packed, initial)
            output, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
        return output, [value.squeeze(0) for value in (final if isinstance(final, tuple) else (final,))]


def _kernel(cell: CellName, nonlinearity: Nonlinearity, input_size: int, hidden_size: int) -> nn.Module:
    options: dict[str, Any] = {"nonlinearity": nonlinearity} if cell == "elman" else {}
    kinds: dict[CellName, Callable[..., nn.RNNBase]] = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
    kernel = kinds[cell](input_size, hidden_size, batch_first=True, **options)
    for name, parameter in kernel.named_parameters():
        if name.startswith("weight_hh"):
            for block in parameter.data.chunk(CELLS[cell].gates):
                nn.init.orthogonal_(block)
        elif name.startswith("bias"):
            nn.init.zeros_(parameter)
            if cell == "lstm" and name.startswith("bias_ih"):
                nn.init.ones_(parameter.data[hidden_size : 2 * hidden_size])
    return kernel


def _literal(cell: CellName, nonlinearity: Nonlinearity, input_size: int, hidden_size: int) -> nn.Module:
    options: dict[str, Any] = {"nonlinearity": nonlinearity} if cell == "elman" else {}
    return LAYER_NORM_CELLS[cell](input_size, hidden_size, **options)


def _drop_connect(
    kernel: nn.Module, p: float, x: Tensor | PackedSequence, initial: Tensor | tuple[Tensor, ...]
) -> tuple[Tensor | PackedSequence, Tensor | tuple[Tensor, ...]]:
    """What ``kernel`` does, with a share ``p`` of its recurrent weights dropped."""
    assert isinstance(kernel, nn.RNNBase)
    function: Any = {
        "LSTM": torch.lstm,
        "GRU": torch.gru,
        "RNN_TANH": torch.rnn_tanh,
        "RNN_RELU": torch.rnn_relu,
    }[kernel.mode]
    weights: dict[str, Tensor] = dict(kernel.named_parameters())
    weights["weight_hh_l0"] = F.dropout(weights["weight_hh_l0"], p)
    flat = [weights[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")]
    one_layer = (True, 1, 0.0, True, False)
    if isinstance(x, Tensor):
        output, *final = function(x, initial, flat, *one_layer, True)
        return output, tuple(final) if len(final) > 1 else final[0]
    data, sizes, order, back = x
    assert order is not None
    assert back is not None
    ordered = [value.index_select(1, order) for value in (initial if isinstance(initial, tuple) else (initial,))]
    data, *final = function(data, sizes, ordered if len(ordered) > 1 else ordered[0], flat, *one_layer)
    final = [value.index_select(1, back) for value in final]
    return PackedSequence(data, sizes, order, back), tuple(final) if len(final) > 1 else final[0]


def _unroll(cell: Cell, x: Tensor, padding: Tensor | None, initial: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A literal cell over [B, T, X], step by step."""
    state: State = dict(zip(cell.state_names, initial, strict=True))
    outputs = []
    with unrolled(cell) if torch.is_grad_enabled() else nullcontext():
        for step, projected in enumerate(cell.input(x).unbind(1)):
            after = cell.recur(projected, state)
            if padding is not None:
                after = {name: torch.where(padding[:, step], state[name], value) for name, value in after.items()}
            state = after
            outputs.append(state["h"])
    return torch.stack(outputs, 1), [state[name] for name in cell.state_names]


def _reverse_prefix(x: Tensor, lengths: Tensor, padding: Tensor | None) -> Tensor:
    """Each row's first ``lengths[b]`` steps in reverse order; the padding stays where it is."""
    if padding is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    mirrored = torch.where(padding.squeeze(2), steps, lengths.unsqueeze(1) - 1 - steps)
    return x.gather(1, mirrored.unsqueeze(2).expand_as(x))
