import pytest
import torch

from models.pooling import Pooling, PoolingName

METHODS: list[PoolingName] = ["mean", "last", "attention"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_only_real_steps_count_and_none_give_zeros(method: PoolingName, bidirectional: bool) -> None:
    torch.manual_seed(0)
    pooling = Pooling(method, 4, bidirectional=bidirectional)
    sequence = torch.randn(3, 5, 4)
    sequence[1, 2:] = 1e4
    sequence.requires_grad_()
    pooled = pooling(sequence, torch.tensor([5, 2, 0]))
    torch.testing.assert_close(pooled[1:2], pooling(sequence[1:2, :2], torch.tensor([2])))
    assert pooled[2].tolist() == [0, 0, 0, 0]
    pooled.square().sum().backward()
    assert sequence.grad is not None
    assert torch.isfinite(sequence.grad).all()
    assert sequence.grad[1, 2:].abs().max() == 0
    assert sequence.grad[2].abs().max() == 0


def test_last_is_where_each_direction_ended() -> None:
    sequence = torch.arange(12.0).reshape(1, 3, 4)
    assert Pooling("last", 4)(sequence, torch.tensor([2])).tolist() == [[4, 5, 6, 7]]
    assert Pooling("last", 4, bidirectional=True)(sequence, torch.tensor([2])).tolist() == [[4, 5, 2, 3]]


def test_attention_is_a_mean_under_weights() -> None:
    pooling = Pooling("attention", 4)
    sequence = torch.randn(1, 3, 4)
    scores = torch.tanh(sequence @ pooling.hidden.weight.T + pooling.hidden.bias) @ pooling.score.weight.T
    expected = (torch.softmax(scores, 1) * sequence).sum(1)
    torch.testing.assert_close(pooling(sequence, torch.tensor([3])), expected)


@pytest.mark.parametrize("method", METHODS)
def test_scores_weigh_the_steps(method: PoolingName) -> None:
    pooling = Pooling(method, 4)
    sequence = torch.randn(2, 3, 4)
    weights = pooling.scores(sequence).softmax(1)
    if method == "attention":
        torch.testing.assert_close((weights.unsqueeze(1) @ sequence).squeeze(1), pooling(sequence, None))
    else:
        assert (weights == weights[0, 0]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", [[6], [1] * 6, [0, 4, 0, 2]])
def test_chunks_pool_to_the_whole(method: PoolingName, chunks: list[int]) -> None:
    torch.manual_seed(0)
    pooling = Pooling(method, 4)
    # Scores that rise by a lot on the way: what came before them must not be lost, nor overflow.
    sequence = torch.randn(2, 6, 4) * torch.tensor([0.1, 1, 100, 1, 1000, 10]).view(1, 6, 1)
    state, pooled = pooling.initial_state(2), torch.zeros(2, 4)
    assert pooling.step(sequence[:, :0], state)[0].tolist() == [[0] * 4] * 2
    for chunk in torch.split(sequence, chunks, 1):
        pooled, state = pooling.step(chunk, state)
    torch.testing.assert_close(pooled, pooling(sequence, torch.tensor([6, 6])), atol=1e-5, rtol=1e-5)


def test_a_bidirectional_network_is_not_pooled_by_step() -> None:
    pooling = Pooling("last", 4, bidirectional=True)
    with pytest.raises(ValueError, match="all at once"):
        pooling.step(torch.randn(1, 2, 4), pooling.initial_state(1))
