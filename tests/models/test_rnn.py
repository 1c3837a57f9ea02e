import pytest
import torch
from torch import nn

from models.rnn import CELLS, CellName, GRUCell, RecurrentEncoder

KERNELS = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
NAMES: list[CellName] = ["elman", "gru", "lstm"]


@pytest.mark.parametrize("name", NAMES)
def test_cell_equals_the_kernel_of_torch(name: CellName) -> None:
    cell, kernel = CELLS[name](5, 7), KERNELS[name](5, 7, batch_first=True)
    with torch.no_grad():
        kernel.weight_ih_l0.copy_(cell.input.weight)
        kernel.weight_hh_l0.copy_(cell.recurrent.weight)
        kernel.bias_ih_l0.copy_(cell.input.bias)
        kernel.bias_hh_l0.zero_()
        if name == "gru":
            assert isinstance(cell, GRUCell)
            cell.candidate_bias.normal_()
            kernel.bias_hh_l0[14:] = cell.candidate_bias
    x = torch.randn(3, 9, 5)
    state = {part: torch.zeros(3, 7) for part in cell.state_names}
    steps = []
    for step in range(9):
        state = cell(x[:, step], state)
        steps.append(state["h"])
    torch.testing.assert_close(torch.stack(steps, 1), kernel(x)[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_and_batch_mates_change_nothing(name: CellName, bidirectional: bool) -> None:
    encoder = RecurrentEncoder(4, 6, cell=name, layers=2, bidirectional=bidirectional)
    x, lengths = torch.randn(3, 8, 4), torch.tensor([8, 3, 0])
    noisy = x.clone()
    noisy[1, 3:] = 1e3
    together = encoder(noisy, lengths)
    alone = encoder(x[1:2, :3], torch.tensor([3]))
    torch.testing.assert_close(together.sequence[1, :3], alone.sequence[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(together.pooled[1], alone.pooled[0], atol=1e-6, rtol=0)
    assert together.sequence[1, 3:].abs().max() == 0
    assert together.pooled[2].abs().max() == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunks", [[1] * 10, [3, 7], [9, 1]])
def test_chunks_equal_the_whole(name: CellName, chunks: list[int]) -> None:
    encoder = RecurrentEncoder(4, 6, cell=name, layers=2)
    x = torch.randn(2, 10, 4)
    whole = encoder(x, torch.tensor([10, 10]))
    state, outputs = encoder.initial_state(2), []
    for chunk in torch.split(x, chunks, 1):
        output, state = encoder.step(chunk, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, 1), whole.sequence, atol=1e-5, rtol=0)
    for part in state:
        torch.testing.assert_close(state[part], whole.state[part], atol=1e-5, rtol=0)


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
