import torch

from models.dropout import LockedDropout, WordDropout


def test_locked_dropout_drops_the_same_units_at_every_step_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = LockedDropout(0.25)(torch.ones(50, 7, 40))
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[0], dropped[1])
    assert set(dropped.flatten().tolist()) == {0, torch.tensor(1 / 0.75).item()}
    assert abs(dropped.mean().item() - 1) < 0.05


def test_word_dropout_drops_whole_steps() -> None:
    torch.manual_seed(0)
    dropped = WordDropout(0.5)(torch.ones(50, 20, 3))
    assert torch.equal(dropped, dropped[:, :, :1].expand_as(dropped))
    assert 0.4 < (dropped == 0).float().mean().item() < 0.6


def test_nothing_is_dropped_when_serving() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(LockedDropout(0.9).eval()(x), x)
    assert torch.equal(WordDropout(0.9).eval()(x), x)
