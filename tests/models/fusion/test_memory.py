import torch

from models.cells import LSTMCell
from models.fusion.memory import MemoryConfig, MemoryFusion
from tests.models.fusion.examples import everything, outputs

SIZES = {"audio": 3, "text": 4}


def test_each_step_by_the_equations() -> None:
    fusion = MemoryFusion(MemoryConfig(hidden=4, memory=5, inner=6), SIZES)
    inputs = outputs({"audio": [3], "text": [3]}, SIZES)
    output = fusion(inputs, everything(inputs))
    states = {name: {"h": torch.zeros(1, 4), "c": torch.zeros(1, 4)} for name in SIZES}
    u, mass = torch.zeros(1, 5), torch.zeros(2)
    for step in range(3):
        before = torch.cat([states[name]["c"] for name in SIZES], 1)
        for name in SIZES:
            cell = fusion.cells[name]
            assert isinstance(cell, LSTMCell)
            states[name] = cell(inputs[name].sequence[:, step], states[name])
        delta = torch.cat([before, *(states[name]["c"] for name in SIZES)], 1)
        attention = fusion.attention(delta).softmax(1)
        attended = attention * delta
        proposal = torch.tanh(fusion.proposal(attended))
        u = torch.sigmoid(fusion.retain(attended)) * u + torch.sigmoid(fusion.write(attended)) * proposal
        mass += torch.stack([attention[0, :4].sum() + attention[0, 8:12].sum(), attention[0, 4:8].sum()])
        mass[1] += attention[0, 12:].sum()
        assert output.sequence is not None
        hidden = torch.cat([states[name]["h"] for name in SIZES], 1)
        torch.testing.assert_close(output.sequence.sequence[:, step], torch.cat([hidden, u], 1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.fused, torch.cat([hidden, u], 1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.contributions[0], mass / 3, atol=1e-6, rtol=1e-5)


def test_a_short_row_ends_with_its_own_last_step() -> None:
    fusion = MemoryFusion(MemoryConfig(hidden=4, memory=5, inner=6), SIZES)
    inputs = outputs({"audio": [6, 2], "text": [1, 2]}, SIZES)
    output = fusion(inputs, everything(inputs))
    assert output.sequence is not None
    assert output.sequence.lengths.tolist() == [6, 2]
    assert torch.equal(output.fused[1], output.sequence.sequence[1, 1])
    assert output.sequence.sequence[1, 2:].abs().max() == 0
