import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from models.registry import FUSIONS
from models.training.studies.calibration import calibrate
from models.training.studies.conversations import Batch, collate, load_conversations, standardized
from models.training.studies.fitting import score
from models.training.studies.mosi import FUSIONS_TRIED
from models.training.studies.network import ConversationNetwork
from tests.models.training.studies.mosi import write_mosi

RULES = ["decision, mean", "decision, weighted", "decision, product", "decision, stacked"]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    write_mosi(tmp_path)
    (train,) = standardized(load_conversations(tmp_path, "train"))
    return collate(train)


def built(rule: str) -> ConversationNetwork:
    torch.manual_seed(0)
    sizes = {"audio": 4, "text": 6, "video": 5}
    fusion = FUSIONS.parse(FUSIONS_TRIED[rule])
    return ConversationNetwork(sizes, fusion, hidden=4, dropout=0.0, context=False).eval()


@pytest.mark.parametrize("rule", RULES)
def test_it_lowers_the_loss_and_leaves_the_encoders_alone(rule: str, batch: Batch) -> None:
    network = built(rule)
    before = copy.deepcopy(network)
    calibrate(network, batch)
    losses = [float(F.cross_entropy(score(each, batch), batch.labels)) for each in (network, before)]
    assert losses[0] < losses[1]
    for name, parameter in network.named_parameters():
        if not name.startswith("fusion."):
            assert torch.equal(parameter, before.get_parameter(name))


def test_a_modality_that_is_sure_and_wrong_is_silenced(batch: Batch) -> None:
    network = built("decision, mean")
    with torch.no_grad():
        # The made-up audio tells nothing about the class.
        network.fusion.get_parameter("heads.audio.1.weight").mul_(30)
    before = sureness(network, batch)
    calibrate(network, batch)
    after = sureness(network, batch)
    assert after["audio"] < 0.5 * before["audio"]


@torch.no_grad()
def sureness(network: ConversationNetwork, batch: Batch) -> dict[str, float]:
    """How far each modality's probabilities are from one half, on average."""
    rows = len(batch.inputs["text"].lengths)
    votes, _ = network.votes(batch.inputs, torch.ones(rows, 3, dtype=torch.bool))
    far = (votes[..., 0].exp() - 0.5).abs().mean(0)
    return dict(zip(network.modalities, far.tolist(), strict=True))
