import pytest
import torch

from models.fusion.cross_modal import CrossModalAttentionFusion, CrossModalConfig
from tests.models.fusion.examples import everything, outputs

SIZES = {"audio": 3, "text": 4}


def test_one_head_by_its_equation() -> None:
    fusion = CrossModalAttentionFusion(CrossModalConfig(width=6, heads=1), SIZES)
    for parameter in fusion.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    inputs = outputs({"audio": [3], "text": [2]}, SIZES)
    steps = {name: fusion.project[name](inputs[name].sequence[0]) for name in SIZES}
    normed = {name: fusion.norm[name](steps[name]) for name in SIZES}
    parts = {name: fusion.output[name](steps[name].mean(0)) for name in SIZES}
    for source, target in (("audio", "text"), ("text", "audio")):
        attend = fusion.attend[f"{source}_to_{target}"]
        assert isinstance(attend, torch.nn.MultiheadAttention)
        assert attend.in_proj_weight is not None
        weights, biases = attend.in_proj_weight.chunk(3), attend.in_proj_bias.chunk(3)
        query, key, value = (
            torch.nn.functional.linear(normed[name], weight, bias)
            for name, weight, bias in zip((target, source, source), weights, biases, strict=True)
        )
        seen = attend.out_proj((query @ key.t() / 6**0.5).softmax(1) @ value)
        parts[source] = parts[source] + fusion.output[target](seen.mean(0))
    output = fusion(inputs, everything(inputs))
    torch.testing.assert_close(output.fused[0], parts["audio"] + parts["text"] + fusion.bias, atol=1e-5, rtol=1e-4)
    norms = torch.stack([parts["audio"].norm(), parts["text"].norm()])
    torch.testing.assert_close(output.contributions[0], norms / norms.sum(), atol=1e-5, rtol=1e-4)


def test_an_absent_modality_neither_looks_nor_is_seen() -> None:
    fusion = CrossModalAttentionFusion(CrossModalConfig(width=6, heads=2), SIZES)
    inputs = outputs({"audio": [3], "text": [2]}, SIZES)
    found = fusion(inputs, torch.tensor([[True, False]])).fused
    steps = fusion.project["audio"](inputs["audio"].sequence[0])
    torch.testing.assert_close(found[0], fusion.output["audio"](steps.mean(0)) + fusion.bias)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="10 cannot be shared by 4 heads"):
        CrossModalConfig(width=10, heads=4)
