"""One layer of an LSTM or a GRU in one direction, on packed weights."""

import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from models.runtime.acceleration import Accelerator, FastMethod
from models.runtime.kernels import onednn
from models.runtime.linear import WORTH_BYTES, pack_half

_LSTM_MODE = 2  # of aten::mkldnn_rnn_layer
_CACHE_BYTES = torch.cpu.get_capabilities().get("l2_cache_size") or 2**20
_MANY_ROWS = 16
_Initial: TypeAlias = Tensor | tuple[Tensor, Tensor] | None
_Run: TypeAlias = Callable[[Tensor, Any], tuple[Tensor, Any]]


class PackedRecurrence:
    """``run`` over whole sequences [B, T, X], and the kernel itself over whatever else it is given."""

    def __init__(self, kernel: nn.RNNBase, run: _Run, how: str) -> None:
        self._kernel = weakref.ref(kernel)
        self._run = run
        self._states = 2 if isinstance(kernel, nn.LSTM) else 1
        self._hidden = kernel.hidden_size
        self.how = how

    def __call__(self, x: Tensor | PackedSequence, initial: _Initial = None) -> tuple[Any, Any]:
        if not isinstance(x, Tensor) or x.ndim != 3 or not x.numel():
            kernel = self._kernel()
            assert kernel is not None
            as_it_was: tuple[Any, Any] = type(kernel).forward(kernel, x, initial)
            return as_it_was
        if initial is None:
            zeros = x.new_zeros(1, len(x), self._hidden)
            initial = zeros if self._states == 1 else (zeros, zeros)
        return self._run(x, initial)


def _onednn_lstm(kernel: nn.LSTM) -> _Run:
    """torch's own kernel, bit for bit, whose weights are not packed anew in each call."""
    size = kernel.hidden_size
    input_weight, recurrent_weight, *biases = kernel.parameters()
    packed = onednn("reorder_mkldnn_rnn_layer_weight")(input_weight, recurrent_weight, size, False, True, False)
    layer = torch.ops.aten.mkldnn_rnn_layer.default

    def run(x: Tensor, initial: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, c = (value.contiguous() for value in initial)
        steps = x.transpose(0, 1).contiguous()
        y, h, c, _ = layer(
            steps, *packed, *biases, h, c, False, [], _LSTM_MODE, size, 1, True, False, False, False
        )  # fmt: skip
        return y.transpose(0, 1), (h, c)

    return run


def _half_lstm(kernel: nn.LSTM) -> _Run:
    packed = [_half_cell(kernel)]

    def run(x: Tensor, initial: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, h, c = torch.quantized_lstm(
            x, initial, packed, True, 1, 0.0, False, False, True, dtype=torch.float16, use_dynamic=True
        )
        return y, (h, c)

    return run


def _half_gru(kernel: nn.GRU) -> _Run:
    packed = [_half_cell(kernel)]

    def run(x: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        y, h = torch.quantized_gru(x, initial, packed, True, 1, 0.0, False, False, True)
        return y, h

    return run


def _half_cell(kernel: nn.RNNBase) -> Any:
    input_weight, recurrent_weight, input_bias, recurrent_bias = kernel.parameters()
    return torch.ops.quantized.make_quantized_cell_params_fp16(
        pack_half(input_weight, input_bias), pack_half(recurrent_weight, recurrent_bias)
    )


def _plain(kernel: nn.RNNBase) -> bool:
    one = kernel.num_layers == 1 and not kernel.bidirectional
    return one and kernel.bias and kernel.batch_first and not kernel.proj_size


def _build_lstm(kernel: nn.LSTM, precision: torch.dtype) -> FastMethod | None:  # noqa: ARG001  never reduced
    if not _plain(kernel):
        return None
    many = _onednn_lstm(kernel)
    # Weights that the cache does not hold are read anew at every step, which costs more than the products of few rows.
    if 4 * 4 * kernel.hidden_size**2 <= _CACHE_BYTES:
        return PackedRecurrence(kernel, many, "float32, weights packed for oneDNN")
    few = _half_lstm(kernel)

    def run(x: Tensor, initial: Any) -> tuple[Tensor, Any]:
        return (few if len(x) < _MANY_ROWS else many)(x, initial)

    return PackedRecurrence(kernel, run, f"float32, weights packed in float16, from {_MANY_ROWS} rows for oneDNN")


def _build_gru(kernel: nn.GRU, precision: torch.dtype) -> FastMethod | None:  # noqa: ARG001  never reduced
    if not _plain(kernel) or 4 * sum(parameter.numel() for parameter in kernel.parameters()) < WORTH_BYTES:
        return None
    return PackedRecurrence(kernel, _half_gru(kernel), "float32, weights packed in float16")


def _examples(kernel: nn.RNNBase, generator: torch.Generator) -> list[tuple[Tensor, Any]]:
    examples = []
    for rows, steps in ((1, 5), (3, 2)):
        x = torch.randn(rows, steps, kernel.input_size, generator=generator)
        h, c = torch.rand(2, 1, rows, kernel.hidden_size, generator=generator).unbind(0)
        examples.append((x, (h, c) if isinstance(kernel, nn.LSTM) else h))
    return examples


lstm = Accelerator(nn.LSTM, "forward", _build_lstm, _examples)
gru = Accelerator(nn.GRU, "forward", _build_gru, _examples)
