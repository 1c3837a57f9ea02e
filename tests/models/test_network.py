import pytest
import torch

from models.encoders.mobilenet import NETWORKS
from models.fusion import ConcatConfig, ConcatFusion
from models.sequence import Padded, SequenceOutput
from tests.support import tiny_config, tiny_network


def frames(*lengths: int) -> Padded:
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 256, (len(lengths), max(lengths), 3, 64, 64), generator=generator, dtype=torch.uint8)
    return Padded(values, torch.tensor(lengths))


def vectors(values: torch.Tensor) -> SequenceOutput:
    """Sequences of one step."""
    return SequenceOutput(values.unsqueeze(1), torch.ones(len(values), dtype=torch.int64), values)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_for_photos_halve_five_times_and_are_cut_anywhere(name: str) -> None:
    cnn = NETWORKS[name]().eval()
    x = torch.randn(1, 3, 97, 64)
    whole = cnn(x)
    assert whole.shape == (1, 1280, 4, 2)
    torch.testing.assert_close(cnn.upper(cnn.lower(x, 7), 7), whole)


def test_padding_and_batch_mates_change_nothing() -> None:
    network = tiny_network(tiny_config())
    batch = frames(1, 3)
    together = network.encode({"image": batch})
    alone = network.encode({"image": Padded(batch.values[:1, :1], torch.tensor([1]))})
    assert together.memory().lengths.tolist() == [4, 12]
    torch.testing.assert_close(together.memory().sequence[0, :4], alone.memory().sequence[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.fusion.fused[0], alone.fusion.fused[0], atol=1e-5, rtol=1e-4)
    assert together.fusion.contributions.tolist() == [[1.0], [1.0]]


def test_what_the_network_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="takes image, not audio"):
        tiny_network(tiny_config()).encode({"audio": frames(1)})


def test_concat_missing_equals_masked_and_contributions_sum_to_one() -> None:
    fusion = ConcatFusion(ConcatConfig(width=6), {"text": 3, "audio": 4})
    torch.nn.init.normal_(fusion.absent["audio"])
    inputs = {"text": vectors(torch.randn(2, 3)), "audio": vectors(torch.randn(2, 4))}
    present = torch.tensor([[False, True], [True, True]])
    fused = fusion(inputs, present)
    loud = torch.cat([torch.full((1, 4), 1e6), inputs["audio"].pooled[1:]])
    other = fusion(inputs | {"audio": vectors(loud)}, present)
    assert torch.equal(fused.fused, other.fused)
    torch.testing.assert_close(fused.contributions.sum(1), torch.ones(2))
    assert fused.contributions[0, 0] == 0


def test_a_row_without_any_modality_is_refused() -> None:
    fusion = ConcatFusion(ConcatConfig(width=6), {"text": 3})
    with pytest.raises(ValueError, match="at least one must be present"):
        fusion({"text": vectors(torch.randn(2, 3))}, torch.tensor([[True], [False]]))
