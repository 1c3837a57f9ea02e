from pathlib import Path

import pytest
import torch

from models.registry import FUSIONS
from models.sequence import Padded
from models.training.studies.conversations import collate, load_conversations, standardized
from models.training.studies.fitting import Plan, draw_present, drop_share, fit, score
from models.training.studies.mosi import FUSIONS_TRIED, figures
from models.training.studies.network import ConversationNetwork
from tests.models.training.studies.mosi import write_mosi

SIZES = {"audio": 4, "text": 6, "video": 5}


def network(name: str, *, context: bool = True) -> ConversationNetwork:
    torch.manual_seed(0)
    return ConversationNetwork(SIZES, FUSIONS.parse(FUSIONS_TRIED[name]), hidden=4, dropout=0.5, context=context).eval()


def test_every_registered_fusion_is_tried() -> None:
    assert {str(fusion["type"]) for fusion in FUSIONS_TRIED.values()} == set(FUSIONS.names())


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("name", FUSIONS_TRIED)
def test_a_conversation_is_scored_alike_alone_and_among_longer_ones(name: str, context: bool) -> None:
    lengths = torch.tensor([2, 5, 3])
    inputs = {modality: Padded(torch.randn(3, 5, size), lengths) for modality, size in SIZES.items()}
    built = network(name, context=context)
    present = torch.tensor([[True, True, True], [False, True, True], [True, False, False]])
    together, _ = built(inputs, present)
    assert together.shape == (10, 2)
    start = 0
    for row, length in enumerate(lengths.tolist()):
        own = {
            key: Padded(value.values[row : row + 1, :length], lengths[row : row + 1]) for key, value in inputs.items()
        }
        single, _ = built(own, present[row : row + 1])
        torch.testing.assert_close(together[start : start + length], single, atol=1e-5, rtol=1e-4)
        start += length


@pytest.mark.parametrize("name", FUSIONS_TRIED)
def test_what_is_not_present_has_no_influence(name: str) -> None:
    lengths = torch.tensor([3, 3])
    inputs = {modality: Padded(torch.randn(2, 3, size), lengths) for modality, size in SIZES.items()}
    present = torch.tensor([[True, False, True]] * 2)
    built = network(name)
    before, _ = built(inputs, present)
    after, _ = built(inputs | {"text": Padded(100 * torch.randn(2, 3, 6), lengths)}, present)
    torch.testing.assert_close(before, after)


def test_fitting_learns_and_is_repeatable(tmp_path: Path) -> None:
    write_mosi(tmp_path, train=12)
    (train,) = standardized(load_conversations(tmp_path, "train"))
    plan = Plan(epochs=12, hidden=4, rate=0.02, mix={}, dev_draws=1, dropout=0.1)
    runs = []
    for _ in range(2):
        fitted, losses = fit(network("concat").train(), train[:9], train[9:], plan, seed=3)
        runs.append((score(fitted, collate(train[9:])), losses))
    assert torch.equal(runs[0][0], runs[1][0])
    assert min(runs[0][1]) < runs[0][1][0]
    assert figures([runs[0][0]], collate(train[9:]))["accuracy"] > 0.9


def test_the_network_of_the_best_epoch_is_kept(tmp_path: Path) -> None:
    write_mosi(tmp_path)
    (train,) = standardized(load_conversations(tmp_path, "train"))
    plan = Plan(epochs=30, hidden=4, rate=0.5, patience=2, mix={}, dev_draws=1)
    fitted, losses = fit(network("concat").train(), train[:7], train[7:], plan, seed=0)
    held_out = collate(train[7:])
    loss = float(torch.nn.functional.cross_entropy(score(fitted, held_out), held_out.labels))
    assert loss == pytest.approx(min(losses), rel=1e-5)
    assert losses.index(min(losses)) == len(losses) - 3


def test_dropping_leaves_something_and_grows_when_progressive() -> None:
    present = draw_present(4000, 3, 0.5, torch.Generator().manual_seed(0))
    assert present.any(1).all()
    assert float((~present).float().mean()) == pytest.approx(0.5 - 0.125 / 3, abs=0.02)
    assert draw_present(50, 3, 0.0, torch.Generator()).all()
    plan = Plan(epochs=10, modality_dropout="progressive", drop=0.4)
    assert [round(drop_share(plan, epoch), 2) for epoch in (0, 1, 5, 9)] == [0, 0.08, 0.4, 0.4]
    assert drop_share(Plan(), 9) == 0


def test_figures_of_known_scores(tmp_path: Path) -> None:
    write_mosi(tmp_path)
    batch = collate(load_conversations(tmp_path, "test"))
    perfect = torch.nn.functional.one_hot(batch.labels, 2).float()
    assert figures([perfect], batch)["accuracy"] == figures([perfect], batch)["f1"] == 1
    always = figures([torch.tensor([1.0, 0.0]).expand(len(batch.labels), 2)], batch)
    share = float((batch.labels == 0).float().mean())
    assert always["accuracy"] == pytest.approx(share)
    assert always["f1"] == pytest.approx(share * 2 * share / (1 + share))
    assert sum(always["right"]) == round(share * len(batch.labels))
