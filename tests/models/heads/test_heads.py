import math

import pytest
import torch
from torch import nn

from models.encoded import Sizes
from models.heads import (
    CaptioningConfig,
    CaptioningHead,
    ClassificationConfig,
    ClassificationHead,
    DecisionConfig,
    DecisionHead,
    EmbeddingConfig,
    EmbeddingHead,
    LanguageModelConfig,
    LanguageModelHead,
    RegressionConfig,
    RegressionHead,
    TranscriptionConfig,
    TranscriptionHead,
)
from models.registry import HEADS
from models.sequence import SequenceOutput
from tests.models.heads.encoded import bundle, steps

FUSED = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))


def test_every_head_says_how_small_it_can_be() -> None:
    for name in HEADS.names():
        assert HEADS.config(name).tiny().type == name


def test_a_class_for_the_bundle_or_for_each_step() -> None:
    encoded = bundle(FUSED, steps(2, 4, 3, 2), text=steps(2, 3, 1, 1))
    sizes = Sizes({"text": 3}, 5, sequence=4)
    assert ClassificationHead(ClassificationConfig(classes=7), sizes)(encoded).shape == (2, 7)
    head = ClassificationHead(ClassificationConfig(classes=7, per="step"), sizes)
    logits = head(encoded)
    assert logits.shape == (2, 3, 7)
    assert encoded.fusion.sequence is not None
    torch.testing.assert_close(logits[1, 1], head.output(encoded.fusion.sequence.sequence[1, 1]))


def test_steps_need_a_fusion_that_has_them() -> None:
    for build in (
        lambda sizes: ClassificationHead(ClassificationConfig(classes=2, per="step"), sizes),
        lambda sizes: RegressionHead(RegressionConfig(per="step"), sizes),
    ):
        with pytest.raises(ValueError, match="needs a fusion that gives a sequence"):
            build(Sizes({"text": 3}, 5))


def test_a_regression_answers_in_the_datas_unit() -> None:
    head = RegressionHead(RegressionConfig(outputs=2), Sizes({"text": 3}, 5))
    targets = torch.tensor([[100.0, 3.0], [300.0, 3.0]])
    head.fit(targets)
    nn.init.zeros_(head.output.weight)
    nn.init.constant_(head.output.bias, 1.0)
    encoded = bundle(FUSED, text=steps(2, 3, 1, 1))
    # One standard deviation above the mean; a constant target's deviation counts as 1.
    torch.testing.assert_close(head(encoded), torch.tensor([[300.0, 4.0]]).expand(2, 2))
    assert {"mean", "std"} <= head.state_dict().keys()


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (torch.zeros(3, 1), r"give \[N, 2\]"),
        (torch.zeros(0, 2), r"give \[N, 2\]"),
        (torch.tensor([[0.0, math.nan]]), "NaN"),
    ],
)
def test_targets_that_fit_no_regression_are_refused(targets: torch.Tensor, said: str) -> None:
    head = RegressionHead(RegressionConfig(outputs=2), Sizes({"text": 3}, 5))
    with pytest.raises(ValueError, match=said):
        head.fit(targets)


def test_a_decision_is_the_fusions_own() -> None:
    head = DecisionHead(DecisionConfig(outputs=5), Sizes({"text": 3}, 5))
    assert torch.equal(head(bundle(FUSED, text=steps(2, 3, 1, 1))), FUSED)
    with pytest.raises(ValueError, match="a decision head of 4 outputs needs a fusion of as many"):
        DecisionHead(DecisionConfig(outputs=4), Sizes({"text": 3}, 5))


def test_a_decision_on_numbers_is_in_the_datas_unit() -> None:
    head = DecisionHead(DecisionConfig(outputs=5, kind="regression"), Sizes({"text": 3}, 5))
    targets = 50 + 20 * torch.randn(9, 5, generator=torch.Generator().manual_seed(2))
    head.fit(targets)
    encoded = bundle(FUSED, text=steps(2, 3, 1, 1))
    torch.testing.assert_close(head(encoded), targets.mean(0) + targets.std(0, correction=0) * FUSED)
    assert not DecisionHead(DecisionConfig(outputs=5), Sizes({"text": 3}, 5)).state_dict()


@pytest.mark.parametrize(("centre", "spread"), [(200_000, 50_000), (20_007, 5), (0, 1e-8), (1e25, 1e24)])
def test_targets_of_any_unit_have_a_mean_and_a_deviation(centre: float, spread: float) -> None:
    head = RegressionHead(RegressionConfig(), Sizes({"text": 3}, 5))
    noise = torch.randn(500, 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    head.fit(centre + spread * noise)
    assert float(head.mean) == pytest.approx(centre + spread * float(noise.mean()), rel=1e-6)
    assert float(head.std) == pytest.approx(spread * float(noise.std(correction=0)), rel=1e-6)


def test_equal_targets_have_the_deviation_1_however_they_round() -> None:
    head = RegressionHead(RegressionConfig(), Sizes({"text": 3}, 5))
    head.fit(torch.full((37, 1), 0.1))
    assert float(head.std) == 1


def test_a_transcription_reads_fused_steps_where_there_are_any() -> None:
    encoded = bundle(FUSED, steps(2, 4, 3, 2), audio=steps(2, 3, 6, 5, seed=2))
    config = TranscriptionConfig(vocabulary=6)
    fused = TranscriptionHead(config, Sizes({"audio": 3}, 5, sequence=4))
    assert fused(encoded).shape == (2, 3, 6)
    assert fused.steps(encoded).lengths.tolist() == [3, 2]
    alone = TranscriptionHead(config, Sizes({"audio": 3}, 5))
    assert alone(encoded).shape == (2, 6, 6)
    assert alone.steps(encoded).lengths.tolist() == [6, 5]
    torch.testing.assert_close(alone(encoded).exp().sum(2), torch.ones(2, 6))


def test_a_transcription_never_writes_what_is_not_spoken_but_always_the_blank() -> None:
    head = TranscriptionHead(TranscriptionConfig(vocabulary=6), Sizes({"audio": 3}, 5))
    head.spoken.zero_()
    head.spoken[4] = 1
    probabilities = head(bundle(FUSED, audio=steps(2, 3, 6, 5))).exp()
    assert probabilities[..., [1, 2, 3, 5]].max() == 0
    assert probabilities[..., [0, 4]].min() > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"blank": 6}, "blank 6 must be below"), ({"grammar": (("bin",), ())}, "at least one word")],
)
def test_a_transcription_that_makes_no_sense_is_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TranscriptionConfig.model_validate({"vocabulary": 6} | settings)


def test_embeddings_are_unit_vectors_and_say_which_rows_have_one() -> None:
    head = EmbeddingHead(EmbeddingConfig(size=4, fused=True), Sizes({"image": 3, "text": 2}, 5))
    found = head(bundle(FUSED, image=steps(2, 3, 1, 1), text=steps(2, 2, 4, 0)))
    assert found.vectors.keys() == {"image", "text", "fused"}
    for name, vectors in found.vectors.items():
        assert vectors.isfinite().all()
        torch.testing.assert_close(vectors[found.present[name]].norm(dim=1), torch.ones(int(found.present[name].sum())))
    assert found.present["text"].tolist() == [True, False]
    assert found.present["fused"].tolist() == [True, True]


def test_the_temperature_is_bounded_and_can_come_back_from_the_bound() -> None:
    head = EmbeddingHead(EmbeddingConfig(size=4), Sizes({"image": 3}, 5))
    torch.testing.assert_close(head.scale, torch.tensor(1 / 0.07))
    nn.init.constant_(head.log_scale, 9.0)
    torch.testing.assert_close(head.scale, torch.tensor(100.0))
    head.scale.backward()  # type: ignore[no-untyped-call]
    assert head.log_scale.grad is not None
    assert head.log_scale.grad > 0


def test_a_language_model_scores_what_may_follow() -> None:
    head = LanguageModelHead(LanguageModelConfig(vocabulary=6), Sizes({"text": 3}, 5))
    head.spoken[:2] = 0
    logits = head(bundle(FUSED, text=steps(2, 3, 4, 2)))
    assert logits.shape == (2, 4, 6)
    assert logits.softmax(2)[..., :2].max() == 0
    with pytest.raises(ValueError, match="reads one encoder, that of the text, not image, text"):
        LanguageModelHead(LanguageModelConfig(vocabulary=6), Sizes({"image": 3, "text": 3}, 5))


CAPTIONING = CaptioningConfig(languages=("en",), vocabulary=12, hidden=8, embedding=6, attention=4)


def test_a_captioner_attends_to_encoders_of_unequal_sizes() -> None:
    head = CaptioningHead(CAPTIONING, Sizes({"audio": 3, "image": 4}, 5))
    audio, image = steps(2, 3, 2, 0), steps(2, 4, 3, 1, seed=2)
    memory = head.remember(bundle(FUSED, audio=audio, image=image), torch.zeros(2, dtype=torch.int64))
    assert memory.values.shape == (2, 5, 8)
    assert memory.mask.sum(1).tolist() == [5, 1]
    torch.testing.assert_close(memory.values[1, 0], head.common.project["image"](image.sequence[1, 0]))
    state = head.initial_state(FUSED)
    scores, _, weights = head.step(torch.zeros(2, 1, dtype=torch.int64), state, memory)
    assert scores.isfinite().all()
    assert weights[1, 0, 1:].eq(0).all()


def test_a_captioner_of_equal_sizes_has_no_projection() -> None:
    head = CaptioningHead(CAPTIONING, Sizes({"audio": 4, "image": 4}, 5))
    assert not [name for name in head.state_dict() if name.startswith("common")]
    image: SequenceOutput = steps(2, 4, 3, 1)
    memory = head.remember(bundle(FUSED, image=image), torch.zeros(2, dtype=torch.int64))
    assert torch.equal(memory.values, image.sequence)
