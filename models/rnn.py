"""A recurrent encoder on torch's fast kernels, or on the literal cells where those have no kernel."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.cells import (
    CELLS,
    LAYER_NORM_CELLS,
    Cell,
    CellName,
    Nonlinearity,
)
from models.dropout import LockedDropout
from models.pooling import Pooling, PoolingName
from models.sequence import SequenceOutput, length_mask
from models.state import State
from models.stepwise import unrolled

LayerNorm = Literal["none", "output", "cell"]

_Layered: TypeAlias = list[Tensor]
"""One layer's state as kernels take it: h and, for LSTM, c, each [1, B, H]."""

# Called directly, for what the modules around them do at each call costs more than a short step.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}

_NEEDS_ALL = "a bidirectional encoder needs the whole sequence and cannot go on from a state"


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
        self.layer_norm = layer_norm
        self.output_size = hidden_size * (2 if bidirectional else 1)
        self.dropout = LockedDropout(dropout)
        self._names = [f"{name}{layer}" for layer in range(layers) for name in CELLS[cell].state_names]
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
        weight = next(self.parameters())
        return {name: weight.new_zeros(rows, self.hidden_size, device=device) for name in self._names}

    def forward(self, x: Tensor, lengths: Tensor, state: State | None = None) -> SequenceOutput:
        """Encode ``x`` [B, T, X] of ``lengths`` [B], going on from ``state`` if one is given.

        Raises:
            ValueError: a state was given to a bidirectional encoder, whose backward half needs the sequence's end.
        """
        if self.bidirectional and state is not None:
            raise ValueError(_NEEDS_ALL)
        ragged = _Ragged.of(lengths, x.shape[1])
        x, after = self._encode(x, state, ragged)
        pooled = self.pooling(x, None if ragged is None else lengths)
        return SequenceOutput(x, lengths, pooled, {} if self.bidirectional else after)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One chunk ``x`` [B, t, X], all steps real -> (outputs [B, t, H], state); equal to ``forward`` in one go.

        Raises:
            ValueError: the encoder is bidirectional.
        """
        if self.bidirectional:
            raise ValueError(_NEEDS_ALL)
        return self._encode(x, state, None)

    def _encode(self, x: Tensor, state: State | None, ragged: "_Ragged | None") -> tuple[Tensor, State]:
        """All layers: outputs [B, T, D], zeros where there is padding, and the state of the forward direction."""
        if not x.shape[1]:
            nothing = self.initial_state(len(x), x.device) if state is None else state
            return x.new_zeros(len(x), 0, self.output_size), nothing
        if state is None:
            initial = [x.new_zeros(1, x.shape[0], self.hidden_size)] * len(self._names)
        else:
            initial = [state[name].unsqueeze(0) for name in self._names]
        final: _Layered = []
        each = len(CELLS[self.cell].state_names)
        x = self.dropout(x) if self.training else x
        for layer, directions in enumerate(self.layers):
            assert isinstance(directions, nn.ModuleList)
            forward, *backward = directions
            before = initial[layer * each : (layer + 1) * each]
            if backward and ragged is None and x.device.type == "cpu" and _is_plain(forward):
                x = self._both(forward, backward[0], x, before)
            else:
                output, after = self._run(forward, x, before, ragged)
                final += after
                if backward:
                    mirrored, _ = self._run(backward[0], _reverse_prefix(x, ragged), before, ragged)
                    output = torch.cat([output, _reverse_prefix(mirrored, ragged)], 2)
                x = output
            if self.layer_norm == "output":
                x = self.norms[layer](x)
            if self.training:
                x = self.dropout(x)
            # What was packed has come back with zeros where there is padding, unless a row had to lend it a step.
            if ragged is not None and (self.bidirectional or self.layer_norm != "none" or not ragged.shortest):
                x = x.masked_fill(ragged.padding, 0)
        # Both directions in one call leave no state, and nobody may go on from one.
        return x, {name: value.squeeze(0) for name, value in zip(self._names, final, strict=False)}

    def _run(self, runner: nn.Module, x: Tensor, state: _Layered, ragged: "_Ragged | None") -> tuple[Tensor, _Layered]:
        """One direction of a layer: outputs [B, T, H], and the state after each row's last real step."""
        if not isinstance(runner, nn.RNNBase):
            assert isinstance(runner, Cell)
            return _unroll(runner, x, state, ragged)
        if ragged is None or self.bidirectional:
            # Nobody asks for the state at a row's end, and no real step comes after padding. On a CPU the kernel of the
            # LSTM is several times faster on an unpacked sequence.
            if not _is_plain(runner):
                output, last = runner(x, _hidden(state))
                return output, [last] if isinstance(last, Tensor) else list(last)
            output, *final = _FUNCTIONS[runner.mode](
                x, _hidden(state), self._weights(runner), True, 1, 0.0, self.training, False, True
            )
        else:
            # Packing stops each row's recurrence at its own end; what it takes for a row of length 0 is not used.
            packed = pack_padded_sequence(x, ragged.sizes, batch_first=True, enforce_sorted=False)
            data, sizes, order, back = packed
            assert order is not None
            assert back is not None
            ordered = [value.index_select(1, order) for value in state]
            data, *final = _FUNCTIONS[runner.mode](
                data, sizes, _hidden(ordered), self._weights(runner), True, 1, 0.0, self.training, False
            )
            output, _ = pad_packed_sequence(
                PackedSequence(data, sizes, order, back), batch_first=True, total_length=x.shape[1]
            )
            final = [value.index_select(1, back) for value in final]
            if not ragged.shortest:
                ran = (ragged.lengths > 0).unsqueeze(1)
                final = [torch.where(ran, value, before) for value, before in zip(final, state, strict=True)]
        return output, final

    def _both(self, forward: nn.RNNBase, backward: nn.Module, x: Tensor, initial: _Layered) -> Tensor:
        """Both directions of a layer over rows without padding, in one call: outputs [B, T, 2 H]."""
        assert isinstance(backward, nn.RNNBase)
        weights = self._weights(forward) + self._weights(backward)
        both = _hidden([value.expand(2, -1, -1) for value in initial])
        output: Tensor = _FUNCTIONS[forward.mode](x, both, weights, True, 1, 0.0, self.training, True, True)[0]
        return output

    def _weights(self, kernel: nn.RNNBase) -> list[Tensor]:
        """W_ih, W_hh, b_ih, b_hh; in training a share of W_hh is dropped."""
        flat: list[Tensor] = kernel._flat_weights  # type: ignore[assignment]  # noqa: SLF001  as its own forward does
        if not (self.training and self.weight_dropout):
            return flat
        return [flat[0], F.dropout(flat[1], self.weight_dropout), *flat[2:]]


@dataclass(frozen=True, slots=True)
class _Ragged:
    """What a batch of unequal lengths [B] needs at every layer, computed once."""

    lengths: Tensor
    sizes: Tensor
    """The lengths on the CPU, at least 1."""
    padding: Tensor
    """Bool [B, T, 1]."""
    shortest: int

    @classmethod
    def of(cls, lengths: Tensor, size: int) -> "_Ragged | None":
        """None where every row has ``size`` steps."""
        shortest = min(lengths.tolist())  # several times faster than a reduction, for a batch has few rows
        if shortest == size:
            return None
        return cls(lengths, lengths.clamp(min=1).cpu(), ~length_mask(lengths, size).unsqueeze(2), shortest)


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


def _is_plain(runner: nn.Module) -> TypeGuard[nn.RNNBase]:
    """Whether it is torch's own kernel, which a runtime has given no faster ``forward`` (``models.runtime``)."""
    return isinstance(runner, nn.RNNBase) and "forward" not in vars(runner)


def _hidden(state: _Layered) -> Tensor | tuple[Tensor, ...]:
    """What kernels call the hidden state: a tensor alone, if there is but one."""
    return tuple(state) if len(state) > 1 else state[0]


def _unroll(cell: Cell, x: Tensor, initial: _Layered, ragged: _Ragged | None) -> tuple[Tensor, _Layered]:
    """A literal cell over [B, T, X], step by step."""
    state: State = {name: value.squeeze(0) for name, value in zip(cell.state_names, initial, strict=True)}
    outputs = []
    with unrolled(cell) if torch.is_grad_enabled() else nullcontext():
        for step, projected in enumerate(cell.input(x).unbind(1)):
            after = cell.recur(projected, state)
            if ragged is not None:
                over = ragged.padding[:, step]
                after = {name: torch.where(over, state[name], value) for name, value in after.items()}
            state = after
            outputs.append(state["h"])
    return torch.stack(outputs, 1), [state[name].unsqueeze(0) for name in cell.state_names]


def _reverse_prefix(x: Tensor, ragged: _Ragged | None) -> Tensor:
    """Each row's real steps in reverse order; the padding stays where it is."""
    if ragged is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    mirrored = torch.where(ragged.padding.squeeze(2), steps, ragged.lengths.unsqueeze(1) - 1 - steps)
    return x.gather(1, mirrored.unsqueeze(2).expand_as(x))
