import torch

from models.state import part, under


def test_a_part_of_a_state_is_found_again_by_its_name() -> None:
    one, other = {"h": torch.zeros(1)}, {"h": torch.ones(1), "c.x": torch.ones(1)}
    whole = under("a", one) | under("a.b", other)
    assert part(whole, "a.b") == other
    assert part(under("a", one) | under("ab", other), "a") == one
