import pytest
import torch

from benchmarks.bare_fusions import bare, bare_network
from benchmarks.speed import fusion_configs, fusion_network
from models.registry import FUSIONS
from models.sequence import Padded
from tests.models.fusion.examples import everything, outputs


@pytest.mark.parametrize("name", fusion_configs())
def test_the_straight_form_gives_what_the_fusion_gives(name: str) -> None:
    config = fusion_configs()[name]
    sizes = dict.fromkeys(("audio", "text", "video"), 6)
    torch.manual_seed(0)
    fusion = FUSIONS.build(FUSIONS.parse(config), sizes).eval()
    inputs = outputs({modality: [4, 4] for modality in sizes}, sizes)
    torch.testing.assert_close(bare(config["type"], fusion, inputs)(), fusion(inputs, everything(inputs)).fused)


@pytest.mark.parametrize("name", fusion_configs())
def test_the_straight_network_gives_what_the_network_gives(name: str) -> None:
    torch.manual_seed(0)
    network = fusion_network(fusion_configs()[name], 6).eval()
    names: list[str] = list(network.modalities)
    given = {name: Padded(torch.randn(2, 4, 6), torch.tensor([4, 4])) for name in names}
    straight = bare_network(network, 2)([given[name].values for name in names])
    torch.testing.assert_close(straight, network.head(network.encode(given)))


def test_every_registered_fusion_is_measured() -> None:
    assert {config["type"] for config in fusion_configs().values()} == set(FUSIONS.names())
