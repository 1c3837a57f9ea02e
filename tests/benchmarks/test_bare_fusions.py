import pytest
import torch

from benchmarks.bare_fusions import bare
from benchmarks.speed import fusion_configs
from models.registry import FUSIONS
from tests.models.fusion.examples import everything, outputs


@pytest.mark.parametrize("name", fusion_configs())
def test_the_straight_form_gives_what_the_fusion_gives(name: str) -> None:
    config = fusion_configs()[name]
    sizes = dict.fromkeys(("audio", "text", "video"), 6)
    torch.manual_seed(0)
    fusion = FUSIONS.build(FUSIONS.parse(config), sizes).eval()
    inputs = outputs({modality: [4, 4] for modality in sizes}, sizes)
    torch.testing.assert_close(bare(config["type"], fusion, inputs)(), fusion(inputs, everything(inputs)).fused)


def test_every_registered_fusion_is_measured() -> None:
    assert {config["type"] for config in fusion_configs().values()} == set(FUSIONS.names())
