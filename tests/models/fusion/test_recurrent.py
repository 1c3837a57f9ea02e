import pytest
import torch
from torch import nn

from models.fusion.recurrent import RecurrentConfig, RecurrentFusion, drive
from models.rnn import RecurrentEncoder
from tests.models.fusion.examples import everything, outputs

SIZES = {"audio": 3, "text": 4}


def test_it_reads_the_aligned_steps_side_by_side() -> None:
    fusion = RecurrentFusion(RecurrentConfig(cell="gru", hidden=5), SIZES)
    inputs = outputs({"audio": [4], "text": [2]}, SIZES)
    output = fusion(inputs, everything(inputs))
    text = inputs["text"].sequence.repeat_interleave(2, 1)
    wanted = fusion.rnn(torch.cat([inputs["audio"].sequence, text], 2), torch.tensor([4]))
    assert output.sequence is not None
    assert output.sequence.lengths.tolist() == [4]
    torch.testing.assert_close(output.sequence.sequence, wanted.sequence)
    torch.testing.assert_close(output.fused, wanted.pooled)


def test_drive_is_the_size_of_what_reaches_the_first_layer() -> None:
    # Independent features of unit variance, so that the docstring's assumption holds.
    rnn = RecurrentEncoder(7, 6, bidirectional=True)
    x = torch.randn(1, 20_000, 7, generator=torch.Generator().manual_seed(0))
    found = drive(rnn, x.square().mean(1), [3, 4])
    kernels = [kernel for kernel in rnn.layers[0].children() if isinstance(kernel, nn.RNNBase)]
    weight = torch.cat([kernel.get_parameter("weight_ih_l0") for kernel in kernels])
    for column, part in enumerate((slice(0, 3), slice(3, 7))):
        reached = (x[0, :, part] @ weight[:, part].t()).square().sum(1).mean().sqrt()
        torch.testing.assert_close(found[0, column], reached, atol=0, rtol=0.02)


def test_a_stream_needs_equal_steps_of_what_is_present() -> None:
    fusion = RecurrentFusion(RecurrentConfig(hidden=5), SIZES)
    inputs = outputs({"audio": [4], "text": [2]}, SIZES)
    with pytest.raises(
        ValueError, match="as many steps of every modality in each chunk: this one has 4 of audio, 2 of"
    ):
        fusion.step(inputs, torch.tensor([[True, True]]), fusion.initial_state(1))
    heard, _ = fusion.step(inputs, torch.tensor([[True, False]]), fusion.initial_state(1))
    assert heard.sequence is not None
    assert heard.sequence.sequence.shape == (1, 4, 5)
    assert heard.contributions.tolist() == [[1.0, 0.0]]
