"""Objectives against sums written out by hand."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.encoded import Sizes
from models.heads import EmbeddingConfig, EmbeddingHead, Embeddings, TranscriptionConfig, TranscriptionHead
from models.network import FusionRNN
from models.training.objectives import (
    AuxiliaryHeads,
    GradientModulation,
    class_cross_entropy,
    ctc_loss,
    info_nce,
    max_violation,
    next_token_cross_entropy,
    over_pairs,
    regression_loss,
    unimodal_scores,
)
from tests.models.heads.encoded import bundle, steps


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_ctc_is_the_sum_over_all_paths() -> None:
    scores = random(2, 4, 3).log_softmax(2)
    targets, lengths = torch.tensor([[1, 2], [1, 9]]), torch.tensor([4, 3])
    wanted = []
    for row, target, length in ((0, [1, 2], 4), (1, [1], 3)):
        paths = [p for p in itertools.product(range(3), repeat=length) if spelled(p) == target]
        total = sum(math.exp(sum(float(scores[row, t, k]) for t, k in enumerate(path))) for path in paths)
        wanted.append(-math.log(total) / len(target))
    loss = ctc_loss(scores, lengths, targets, torch.tensor([2, 1]), blank=0)
    assert float(loss) == pytest.approx(sum(wanted) / 2, abs=1e-5)


def spelled(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in itertools.groupby(path) if token != 0]


def test_ctc_names_the_row_that_is_too_short() -> None:
    scores = random(2, 3, 3).log_softmax(2)
    targets = torch.tensor([[1, 2], [1, 1]])
    assert ctc_loss(scores, torch.tensor([3, 3]), targets, torch.tensor([2, 2]), blank=0).isfinite()
    with pytest.raises(ValueError, match="row 1 has 2 steps, fewer than the 3"):
        ctc_loss(scores, torch.tensor([3, 2]), targets, torch.tensor([2, 2]), blank=0)


def test_ctc_has_finite_gradients_where_tokens_are_never_written() -> None:
    head = TranscriptionHead(TranscriptionConfig(vocabulary=5), Sizes({"audio": 3}, 3))
    head.spoken[1:3] = 0
    encoded = bundle(torch.zeros(1, 3), audio=steps(1, 3, 6))
    lengths = head.steps(encoded).lengths
    ctc_loss(head(encoded), lengths, torch.tensor([[3, 4]]), torch.tensor([2]), blank=0).backward()  # type: ignore[no-untyped-call]
    for parameter in head.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_info_nce_is_the_mean_of_two_cross_entropies() -> None:
    cosines = torch.tensor([[0.9, 0.1], [0.3, 0.5]])
    across = -sum(math.log(math.exp(2 * cosines[i, i]) / sum(math.exp(2 * c) for c in cosines[i])) for i in range(2))
    down = -sum(math.log(math.exp(2 * cosines[i, i]) / sum(math.exp(2 * c) for c in cosines[:, i])) for i in range(2))
    assert float(info_nce(cosines, scale=2.0)) == pytest.approx((across + down) / 4, abs=1e-6)


def test_what_belongs_together_is_no_negative() -> None:
    cosines = random(3, 3).tanh()
    groups = torch.tensor([7, 7, 8])
    together = groups.unsqueeze(1) == groups
    louder = cosines.clone()
    louder[0, 1] = louder[1, 0] = 1.0
    for loss in (info_nce, max_violation):
        assert torch.equal(loss(cosines, together), loss(louder, together))
        assert not torch.equal(loss(cosines), loss(louder))


def test_the_hinge_looks_at_the_hardest_negative() -> None:
    cosines = torch.tensor([[0.8, 0.7, 0.1], [0.2, 0.9, 0.3], [0.0, 0.85, 0.6]])
    # Across: 0.2 + 0.7 - 0.8, nothing, 0.2 + 0.85 - 0.6; down: nothing, 0.2 + 0.85 - 0.9, nothing.
    assert float(max_violation(cosines)) == pytest.approx((0.1 + 0.45 + 0.15) / 3, abs=1e-6)
    with pytest.raises(ValueError, match="at least two pairs"):
        max_violation(cosines[:1, :1])


def test_contrast_takes_every_two_modalities_where_both_are_present() -> None:
    vectors = {
        name: F.normalize(random(3, 4, seed=seed), dim=1) for seed, name in enumerate(("audio", "image", "text"))
    }
    all_there = torch.ones(3, dtype=torch.bool)
    present = {
        "audio": torch.tensor([True, False, False]),
        "image": all_there,
        "text": torch.tensor([True, False, True]),
    }
    embeddings = Embeddings(vectors, present, torch.tensor(1.0))
    # Audio shares only one row with each of the others: there is nothing to tell it from.
    rows = torch.tensor([0, 2])
    wanted = info_nce(vectors["image"][rows] @ vectors["text"][rows].t())
    torch.testing.assert_close(over_pairs(embeddings, info_nce), wanted)
    everything = over_pairs(embeddings, info_nce, lambda one, other: torch.ones(3, 3, dtype=torch.bool))
    assert float(everything) == 0
    with pytest.raises(ValueError, match="contrast needs pairs"):
        over_pairs(Embeddings({"image": vectors["image"]}, {"image": all_there}, torch.tensor(1.0)), info_nce)


def test_a_contrastive_loss_teaches_the_temperature() -> None:
    head = EmbeddingHead(EmbeddingConfig(size=4), Sizes({"image": 3, "text": 3}, 5))
    found = head(bundle(random(3, 5), image=steps(3, 3, 1, 1, 1), text=steps(3, 3, 1, 1, 1, seed=2)))
    over_pairs(found, lambda cosines, groups: info_nce(cosines, groups, scale=found.scale)).backward()  # type: ignore[no-untyped-call]
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_smoothing_spreads_the_targets_probability() -> None:
    logits = random(1, 4)
    log_probabilities = logits.log_softmax(1)[0]
    wanted = -(0.9 * log_probabilities[2] + 0.1 * log_probabilities.mean())
    torch.testing.assert_close(class_cross_entropy(logits, torch.tensor([2]), smoothing=0.1), wanted)


def test_regression_losses_are_in_standard_deviations() -> None:
    found, wanted = torch.tensor([[14.0, 1.0], [10.0, 2.0]]), torch.tensor([[10.0, 1.5], [10.0, 2.0]])
    # Beyond one standard deviation errors count as they are, less a half, and not squared.
    loss = regression_loss(found, wanted, std=torch.tensor([2.0, 1.0]))
    assert float(loss) == pytest.approx((1.5 + 0.125 + 0 + 0) / 4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_next_token_is_asked_for_up_to_the_end(smoothing: float) -> None:
    logits = random(2, 3, 5).index_fill(2, torch.tensor([0]), float("-inf"))
    tokens, lengths = torch.tensor([[3, 0, 4], [2, 9, 9]]), torch.tensor([3, 1])
    # Token 0 is never written: it is read, but nobody asks for it after the first token.
    asked = torch.stack([logits[0, 1], logits[0, 2], logits[1, 0]])[:, 1:]
    wanted = F.cross_entropy(asked, torch.tensor([3, 0, 0]), label_smoothing=smoothing)
    loss = next_token_cross_entropy(logits, tokens, lengths, end=1, smoothing=smoothing)
    torch.testing.assert_close(loss, wanted)
    leaf = logits.clone().requires_grad_()
    next_token_cross_entropy(leaf, tokens, lengths, end=1, smoothing=smoothing).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    # Of a text that was cut, the word after the cut.
    each = next_token_cross_entropy(logits, tokens, lengths, end=torch.tensor([1, 2]), smoothing=smoothing)
    wanted = F.cross_entropy(asked, torch.tensor([3, 0, 1]), label_smoothing=smoothing)
    torch.testing.assert_close(each, wanted)


def test_auxiliary_heads_learn_from_the_rows_that_have_their_modality() -> None:
    heads = AuxiliaryHeads({"text": 3, "image": 2}, 4)
    encoded = bundle(random(2, 5), image=steps(2, 2, 1, 1), text=steps(2, 3, 4, 0))
    targets = torch.tensor([1, 3])
    scores = heads(encoded)
    wanted = (F.cross_entropy(scores["image"], targets) + F.cross_entropy(scores["text"][:1], targets[:1])) / 2
    torch.testing.assert_close(heads.loss(encoded, targets, class_cross_entropy), wanted)
    found = unimodal_scores(scores, encoded, targets)
    assert found["text"] == pytest.approx(float(scores["text"].detach().softmax(1)[0, 1]))


def test_the_better_modality_is_slowed_down_and_the_other_is_not() -> None:
    modulation = GradientModulation(alpha=0.5)
    found = modulation.coefficients({"audio": 0.6, "image": 0.3})
    assert found == {"audio": pytest.approx(1 - math.tanh(0.5 * 2)), "image": 1.0}
    three = modulation.coefficients({"audio": 0.6, "image": 0.3, "text": 0.1})
    assert three["audio"] == pytest.approx(1 - math.tanh(0.5 * 3))
    assert modulation.coefficients({"audio": 0.6}) == {"audio": 1.0}
    with pytest.raises(ValueError, match="must not be negative"):
        GradientModulation(-1)


class Two(torch.nn.Module):
    """As much of a network as is modulated."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = torch.nn.ModuleDict({"audio": torch.nn.Linear(40, 50), "image": torch.nn.Linear(40, 50)})
        self.head = torch.nn.Linear(3, 1)
        for parameter in self.parameters():
            parameter.grad = torch.ones_like(parameter)


def test_modulation_scales_the_encoders_gradients_alone() -> None:
    network: FusionRNN = Two()  # type: ignore[assignment]
    GradientModulation(alpha=0.5, noise=False).modulate(network, {"audio": 0.6, "image": 0.3})
    for name, wanted in (("audio", 1 - math.tanh(1)), ("image", 1.0)):
        for parameter in network.encoders[name].parameters():
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, torch.full_like(parameter, wanted))
    assert all(
        bool(parameter.grad.eq(1).all()) for parameter in network.head.parameters() if parameter.grad is not None
    )


def test_modulation_adds_noise_of_the_gradients_own_spread() -> None:
    network: FusionRNN = Two()  # type: ignore[assignment]
    weight = network.encoders["audio"].weight
    assert isinstance(weight, Tensor)
    before = random(50, 40, seed=3) * 0.1
    weight.grad = before.clone()
    GradientModulation().modulate(network, {"audio": 0.3, "image": 0.6}, torch.Generator().manual_seed(0))
    noise = weight.grad - before
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert abs(float(noise.mean())) < 0.01
    assert abs(float((noise * before).mean())) < 0.001
