import pytest
import torch

from models.fusion.presence import complete, drop_one, shares


def test_shares_sum_to_one_over_what_is_present() -> None:
    present = torch.tensor([[True, True, False], [True, True, True]])
    found = shares(torch.tensor([[1.0, 3.0, 100.0], [0.0, 0.0, 0.0]]), present)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.0], [1 / 3, 1 / 3, 1 / 3]]))


def test_leaving_out_what_counts_more_moves_more() -> None:
    weights = torch.tensor([1.0, 3.0])
    present = torch.tensor([[True, True], [False, True]])
    found = drop_one(lambda some: (weights * some).sum(1, keepdim=True), present)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75], [0.0, 1.0]]))


def test_a_row_with_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a row has no modality"):
        complete(torch.tensor([[True, False], [False, False]]))


def test_only_where_nothing_is_missing_it_is_complete() -> None:
    assert complete(torch.tensor([[True, True], [True, True]]))
    assert not complete(torch.tensor([[True, True], [False, True]]))
