import math
from operator import mul
from typing import Any, cast

import pytest
import torch
from torch import nn

from models.cells import CELLS, LAYER_NORM_CELLS, Cell, CellName, ElmanCell, GRUCell, LayerNormLSTMCell, Nonlinearity
from models.rnn import RecurrentEncoder

KERNELS = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
NAMES: list[CellName] = ["elman", "gru", "lstm"]


VARIANTS: list[dict[str, Any]] = [
    *({"cell": name} for name in NAMES),
    {"cell": "elman", "nonlinearity": "relu"},
    {"cell": "gru", "layer_norm": "output"},
    *({"cell": name, "layer_norm": "cell"} for name in NAMES),
    {"cell": "elman", "nonlinearity": "relu", "layer_norm": "cell"},
    {"cell": "lstm", "pooling": "last"},
    {"cell": "gru", "pooling": "attention"},
]
"""Options of an encoder that the invariances must hold for."""


def test_elman_is_the_textbooks_equation() -> None:
    """h_t = f(W_hx x_t + W_hh h_{t-1} + b_h), number by number."""
    for nonlinearity, f in (("tanh", math.tanh), ("relu", lambda value: max(value, 0.0))):
        cell = ElmanCell(2, 3, cast("Nonlinearity", nonlinearity))
        torch.nn.init.normal_(cell.input.bias)
        w_hx, w_hh, b_h = (p.tolist() for p in (cell.input.weight, cell.recurrent.weight, cell.input.bias))
        state, h = {"h": torch.zeros(1, 3)}, [0.0] * 3
        for x in ([0.5, -1.0], [2.0, 0.25], [-0.1, 0.7]):
            h = [f(sum(map(mul, w_hx[row], x)) + sum(map(mul, w_hh[row], h)) + b_h[row]) for row in range(3)]
            state = cell(torch.tensor([x]), state)
            torch.testing.assert_close(state["h"], torch.tensor([h]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_cell_equals_the_kernel_of_torch(name: CellName) -> None:
    compare(CELLS[name](5, 7), KERNELS[name](5, 7, batch_first=True), name)


def test_relu_elman_equals_the_kernel_of_torch() -> None:
    compare(ElmanCell(5, 7, "relu"), nn.RNN(5, 7, nonlinearity="relu", batch_first=True), "elman")


def compare(cell: Cell, kernel: nn.RNNBase, name: CellName) -> None:
    """The literal cell, step by step, against the kernel with its weights."""
    weights = dict(kernel.named_parameters())
    with torch.no_grad():
        weights["weight_ih_l0"].copy_(cell.input.weight)
        weights["weight_hh_l0"].copy_(cell.recurrent.weight)
        weights["bias_ih_l0"].copy_(cell.input.bias)
        weights["bias_hh_l0"].zero_()
        if name == "gru":
            assert isinstance(cell, GRUCell)
            cell.candidate_bias.normal_()
            weights["bias_hh_l0"][14:] = cell.candidate_bias
    x = torch.randn(3, 9, 5)
    state = {part: torch.zeros(3, 7) for part in cell.state_names}
    steps = []
    for step in range(9):
        state = cell(x[:, step], state)
        steps.append(state["h"])
    torch.testing.assert_close(torch.stack(steps, 1), kernel(x)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_and_batch_mates_change_nothing_nor_any_gradient(options: dict[str, Any], bidirectional: bool) -> None:
    torch.manual_seed(0)
    encoder = RecurrentEncoder(4, 6, layers=2, bidirectional=bidirectional, **options)
    x, lengths = torch.randn(3, 8, 4), torch.tensor([8, 3, 0])
    x[1, 3:] = 1e3
    x.requires_grad_()
    together = encoder(x, lengths)
    alone = [encoder(x[row : row + 1, :size], torch.tensor([size])) for row, size in ((0, 8), (1, 3))]
    for row, output in enumerate(alone):
        size = output.sequence.shape[1]
        torch.testing.assert_close(together.sequence[row, :size], output.sequence[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(together.pooled[row], output.pooled[0], atol=1e-5, rtol=1e-5)
        for name, value in output.state.items():
            torch.testing.assert_close(together.state[name][row], value[0], atol=1e-5, rtol=1e-5)
    assert together.sequence[1, 3:].abs().max() == 0
    assert together.sequence[2].abs().max() == 0
    assert together.pooled[2].abs().max() == 0
    inputs = [x, *encoder.parameters()]
    wanted = torch.autograd.grad(sum(output.pooled.square().sum() for output in alone), inputs)
    found = torch.autograd.grad(together.pooled.square().sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        assert torch.isfinite(one).all()
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", VARIANTS)
@pytest.mark.parametrize("chunks", [[1] * 10, [3, 7], [0, 9, 1]])
def test_chunks_equal_the_whole(options: dict[str, Any], chunks: list[int]) -> None:
    encoder = RecurrentEncoder(4, 6, layers=2, **options)
    x = torch.randn(2, 10, 4)
    whole = encoder(x, torch.tensor([10, 10]))
    state, outputs = encoder.initial_state(2), []
    for chunk in torch.split(x, chunks, 1):
        output, state = encoder.step(chunk, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole.sequence, atol=1e-5, rtol=0)
    for part in state:
        torch.testing.assert_close(state[part], whole.state[part], atol=1e-5, rtol=0)


def test_layer_norm_lstm_is_the_papers_equation() -> None:
    torch.manual_seed(0)
    cell = LayerNormLSTMCell(5, 4)
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)

    def norm(values: torch.Tensor, layer: nn.LayerNorm) -> torch.Tensor:
        spread = values.var(-1, correction=0, keepdim=True).add(layer.eps).sqrt()
        return (values - values.mean(-1, keepdim=True)) / spread * layer.weight + layer.bias

    x, h, c = torch.randn(2, 5), torch.randn(2, 4), torch.randn(2, 4)
    gates = norm(x @ cell.input.weight.T, cell.norm_input) + norm(h @ cell.recurrent.weight.T, cell.norm_recurrent)
    i, f, g, o = gates.chunk(4, 1)
    wanted = f.sigmoid() * c + i.sigmoid() * g.tanh()
    after = cell(x, {"h": h, "c": c})
    torch.testing.assert_close(after["c"], wanted)
    torch.testing.assert_close(after["h"], o.sigmoid() * norm(wanted, cell.norm_cell).tanh())


@pytest.mark.parametrize("name", NAMES)
def test_layer_norm_forgets_the_inputs_scale(name: CellName) -> None:
    cell = LAYER_NORM_CELLS[name](5, 4)
    state = {part: torch.zeros(2, 4) for part in cell.state_names}
    x = torch.randn(2, 5)
    torch.testing.assert_close(cell(10 * x, state)["h"], cell(x, state)["h"], atol=1e-3, rtol=1e-3)
    plain = CELLS[name](5, 4)
    assert (plain(10 * x, state)["h"] - plain(x, state)["h"]).abs().max() > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_recurrent_weights_start_orthogonal_and_the_forget_gate_open(name: CellName) -> None:
    weights = dict(RecurrentEncoder(4, 6, cell=name).named_parameters())
    for block in weights["layers.0.0.weight_hh_l0"].chunk(CELLS[name].gates):
        torch.testing.assert_close(block @ block.T, torch.eye(6), atol=1e-5, rtol=0)
    biases = (weights["layers.0.0.bias_ih_l0"] + weights["layers.0.0.bias_hh_l0"]).tolist()
    assert biases == ([0] * 6 + [1] * 6 + [0] * 12 if name == "lstm" else [0] * 6 * CELLS[name].gates)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 2, 0]])
def test_weight_dropout_drops_recurrent_weights_when_training_only(name: CellName, lengths: list[int]) -> None:
    encoder = RecurrentEncoder(4, 6, cell=name, weight_dropout=0.5)
    x, sizes = torch.randn(3, 5, 4), torch.tensor(lengths)
    weight = encoder.get_parameter("layers.0.0.weight_hh_l0")
    torch.manual_seed(1)
    trained = encoder(x, sizes)
    torch.manual_seed(1)
    dropped = torch.nn.functional.dropout(weight, 0.5)
    assert 0 < int((dropped == 0).sum()) < weight.numel()
    trained.pooled.sum().backward()
    assert weight.grad is not None
    assert ((weight.grad == 0) >= (dropped == 0)).all()
    encoder.eval()
    assert not torch.allclose(encoder(x, sizes).pooled, trained.pooled)
    with torch.no_grad():
        weight.copy_(dropped)
    after = encoder(x, sizes)
    torch.testing.assert_close(after.sequence, trained.sequence)
    for part, value in after.state.items():
        torch.testing.assert_close(value, trained.state[part])


def test_dropout_is_locked_over_the_steps() -> None:
    encoder = RecurrentEncoder(4, 60, dropout=0.5)
    dropped = encoder(torch.randn(2, 7, 4), torch.tensor([7, 7])).sequence == 0
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert 0 < int(dropped[0, 0].sum()) < 60


def test_options_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="only the cell 'elman' has a nonlinearity"):
        RecurrentEncoder(4, 6, cell="gru", nonlinearity="relu")
    with pytest.raises(ValueError, match="needs the fast kernels"):
        RecurrentEncoder(4, 6, weight_dropout=0.1, layer_norm="cell")


def test_a_row_without_steps_keeps_its_state() -> None:
    encoder = RecurrentEncoder(4, 6, cell="lstm")
    state = {name: torch.randn(2, 6) for name in encoder.initial_state(2)}
    after = encoder(torch.randn(2, 5, 4), torch.tensor([5, 0]), state).state
    assert torch.equal(after["c0"][1], state["c0"][1])
    assert not torch.equal(after["c0"][0], state["c0"][0])


def test_bidirectional_refuses_to_go_on() -> None:
    encoder = RecurrentEncoder(4, 6, bidirectional=True)
    with pytest.raises(ValueError, match="needs the whole sequence"):
        encoder(torch.randn(1, 2, 4), torch.tensor([2]), encoder.initial_state(1))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_kernel_that_a_runtime_has_replaced_is_used(bidirectional: bool) -> None:
    encoder = RecurrentEncoder(4, 6, cell="lstm", bidirectional=bidirectional).eval()
    x, lengths = torch.randn(2, 5, 4), torch.tensor([5, 5])
    wanted = encoder(x, lengths).sequence
    calls = []
    for module in list(encoder.modules()):
        if isinstance(module, nn.LSTM):

            def fast(*arguments: Any, module: nn.LSTM = module) -> Any:
                calls.append(module)
                return nn.LSTM.forward(module, *arguments)

            module.forward = fast  # type: ignore[assignment]
    torch.testing.assert_close(encoder(x, lengths).sequence, wanted, atol=1e-6, rtol=0)
    assert len(calls) == 1 + bidirectional
