import pytest
import torch
from torch import Tensor, nn

from models.fusion.decision import DecisionConfig, DecisionFusion, Rule
from tests.models.fusion.examples import SIZES, vectors

# Two classes; the third modality is absent from the second row, and what it says there must not count.
PROBABILITIES = torch.tensor([[[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [[0.9, 0.1], [0.6, 0.4], [1e-6, 1.0]]])
PRESENT = torch.tensor([[True, True, True], [True, True, False]])


def combined(rule: Rule, votes: Tensor, scores: list[float] | None = None) -> Tensor:
    fusion = DecisionFusion(DecisionConfig(outputs=votes.shape[2], combine=rule), SIZES)
    if scores is not None:
        fusion.scores.data = torch.tensor(scores)
    return fusion.combined(votes, PRESENT)


def test_mean_of_probabilities() -> None:
    found = combined("mean", PROBABILITIES.log()).exp()
    torch.testing.assert_close(found, torch.tensor([[1.7 / 3, 1.3 / 3], [0.75, 0.25]]), atol=1e-6, rtol=1e-5)


def test_weighted_mean_of_probabilities() -> None:
    # Weights 1 : 2 : 3.
    found = combined("weighted", PROBABILITIES.log(), [0.0, 0.6931472, 1.0986123]).exp()
    torch.testing.assert_close(found, torch.tensor([[2.7 / 6, 3.3 / 6], [0.7, 0.3]]), atol=1e-6, rtol=1e-5)


def test_product_of_experts() -> None:
    found = combined("product", PROBABILITIES.log()).exp()
    first, second = 0.9 * 0.6 * 0.2, 0.1 * 0.4 * 0.8
    wanted = torch.tensor([[first / (first + second), second / (first + second)], [0.54 / 0.58, 0.04 / 0.58]])
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_stacking_reads_the_votes_and_who_voted() -> None:
    fusion = DecisionFusion(DecisionConfig(outputs=2, combine="stacked"), SIZES)
    votes = PROBABILITIES.log()
    kept = votes.clone()
    kept[1, 2] = 0
    seen = torch.cat([kept.flatten(1), torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])], 1)
    torch.testing.assert_close(fusion.combined(votes, PRESENT), fusion.stack(seen))


def test_numbers_are_averaged_as_they_are() -> None:
    numbers = torch.tensor([[[1.0], [2.0], [6.0]], [[1.0], [2.0], [99.0]]])
    torch.testing.assert_close(combined("mean", numbers), torch.tensor([[3.0], [1.5]]))
    weighted = combined("weighted", numbers, [0.0, 0.6931472, 1.0986123])
    torch.testing.assert_close(weighted, torch.tensor([[23 / 6], [5 / 3]]))


@pytest.mark.parametrize("rule", ["mean", "weighted", "product"])
def test_a_single_voter_decides(rule: Rule) -> None:
    fusion = DecisionFusion(DecisionConfig(outputs=4, combine=rule), SIZES)
    output = fusion(vectors(), torch.tensor([[False, True, False]] * 2))
    assert output.votes is not None
    torch.testing.assert_close(output.fused, output.votes[:, 1])
    assert output.contributions.tolist() == [[0.0, 1.0, 0.0]] * 2
    torch.testing.assert_close(output.fused.exp().sum(1), torch.ones(2))


def test_contributions_are_what_leaving_out_changes() -> None:
    fusion = DecisionFusion(DecisionConfig(outputs=2, combine="mean"), {"audio": 2, "text": 2})
    for name, logits in {"audio": [0.0, 0.0], "text": [2.0, 0.0]}.items():
        nn.init.zeros_(fusion.heads[name].get_parameter("1.weight"))
        fusion.heads[name].get_parameter("1.bias").data = torch.tensor(logits)
    contributions = fusion(vectors(1, {"audio": 2, "text": 2}), torch.tensor([[True, True]])).contributions
    # Without one, the mean moves to the other: by half their difference in either case.
    torch.testing.assert_close(contributions, torch.tensor([[0.5, 0.5]]))


def test_a_product_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a regression \(outputs 1\) has none"):
        DecisionConfig(outputs=1, combine="product")


def test_contributions_to_a_number_are_how_far_it_moves() -> None:
    fusion = DecisionFusion(DecisionConfig(outputs=1, combine="mean"), SIZES)
    for name, number in zip(SIZES, (1.0, 2.0, 6.0), strict=True):
        nn.init.zeros_(fusion.heads[name].get_parameter("1.weight"))
        fusion.heads[name].get_parameter("1.bias").data = torch.tensor([number])
    contributions = fusion(vectors(1), torch.tensor([[True, True, True]])).contributions
    # Their mean is 3; without one of them 4, 3.5 and 1.5.
    torch.testing.assert_close(contributions, torch.tensor([[1 / 3, 1 / 6, 1 / 2]]))


@pytest.mark.parametrize("outputs", [1, 3])
def test_who_is_absent_has_a_vote_of_nought(outputs: int) -> None:
    votes = DecisionFusion(DecisionConfig(outputs=outputs), SIZES)(vectors(), PRESENT).votes
    assert votes is not None
    assert torch.equal(votes.abs().sum(2) > 0, PRESENT)
