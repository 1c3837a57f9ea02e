import pytest
import torch

from models.state import join, nbytes, part, select, under


def test_rows_are_picked_repeated_and_joined() -> None:
    state = {"h": torch.arange(6.0).view(3, 2)}
    picked = select(state, torch.tensor([2, 0, 0]))
    assert picked["h"].tolist() == [[4, 5], [0, 1], [0, 1]]
    assert join([state, picked])["h"].shape == (6, 2)
    assert nbytes(state) == 24


def test_nothing_cannot_be_joined() -> None:
    with pytest.raises(ValueError, match="no state"):
        join([])


def test_a_part_of_a_state_is_found_again_by_its_name() -> None:
    one, other = {"h": torch.zeros(1)}, {"h": torch.ones(1), "c.x": torch.ones(1)}
    whole = under("a", one) | under("a.b", other)
    assert part(whole, "a.b") == other
    assert part(under("a", one) | under("ab", other), "a") == one
