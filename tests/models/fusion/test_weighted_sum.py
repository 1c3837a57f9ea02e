import pytest
import torch

from models.fusion.weighted_sum import WeightedSumConfig, WeightedSumFusion
from tests.models.fusion.examples import SIZES, vectors

SOME = torch.tensor([[True, True, True], [True, False, True]])


def hidden(fusion: WeightedSumFusion, name: str, x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ fusion.project[name].weight.t())  # type: ignore[operator]


def test_fixed_weights_are_normalized_over_what_is_present() -> None:
    fusion = WeightedSumFusion(
        WeightedSumConfig(mode="fixed", width=6, weights={"audio": 1.0, "text": 2.0, "video": 3.0}), SIZES
    )
    inputs = vectors()
    audio, text, video = (hidden(fusion, name, inputs[name].pooled) for name in SIZES)
    found = fusion(inputs, SOME).fused
    torch.testing.assert_close(found[0], (audio[0] + 2 * text[0] + 3 * video[0]) / 6)
    torch.testing.assert_close(found[1], (audio[1] + 3 * video[1]) / 4)


def test_learned_weights_are_a_softmax_over_what_is_present() -> None:
    fusion = WeightedSumFusion(WeightedSumConfig(mode="learned", width=6), SIZES)
    fusion.scores.data = torch.tensor([1.0, 2.0, 3.0])
    inputs = vectors()
    audio, _, video = (hidden(fusion, name, inputs[name].pooled) for name in SIZES)
    weights = torch.tensor([1.0, 3.0]).softmax(0)
    torch.testing.assert_close(fusion(inputs, SOME).fused[1], weights[0] * audio[1] + weights[1] * video[1])


def test_gated_multimodal_unit_by_its_equations() -> None:
    fusion = WeightedSumFusion(WeightedSumConfig(mode="gated", width=6), SIZES)
    torch.nn.init.normal_(fusion.absent["text"])
    inputs = vectors()
    output = fusion(inputs, SOME)
    for row, text in enumerate([inputs["text"].pooled[0], fusion.absent["text"]]):
        x = torch.cat([inputs["audio"].pooled[row], text, inputs["video"].pooled[row]])
        gates = torch.split(torch.sigmoid(fusion.gates.weight @ x), 6)
        parts = [gate * hidden(fusion, name, inputs[name].pooled[row]) for gate, name in zip(gates, SIZES, strict=True)]
        if row == 1:
            parts[1] = torch.zeros(6)
        torch.testing.assert_close(output.fused[row], parts[0] + parts[1] + parts[2])
        norms = torch.stack([part.norm() for part in parts])
        torch.testing.assert_close(output.contributions[row], norms / norms.sum(), atol=1e-6, rtol=1e-5)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="in the mode 'gated' they are learned"):
        WeightedSumConfig(weights={"audio": 1.0})
    with pytest.raises(ValueError, match="weights name audio, but there are audio, text, video"):
        WeightedSumFusion(WeightedSumConfig(mode="fixed", weights={"audio": 1.0}), SIZES)
