import pytest
import torch

from models.fusion.tensor import FullProduct, LowRankProduct, TensorConfig, TensorFusion, outer
from tests.models.fusion.examples import SIZES, vectors


def test_outer_product_by_einsum() -> None:
    z = torch.randn(2, 3, 4)
    a, b, c = (torch.cat([torch.ones(2, 1), z[:, modality]], 1) for modality in range(3))
    torch.testing.assert_close(outer(z), torch.einsum("bi,bj,bk->bijk", a, b, c).flatten(1))


def test_low_rank_equals_the_full_tensor_of_its_weight() -> None:
    low = LowRankProduct(factors=3, size=4, width=6, rank=2)
    torch.nn.init.normal_(low.bias)
    full = FullProduct(factors=3, size=4, width=6)
    weight = torch.einsum("rio,rjo,rko->oijk", *low.factors.detach())
    full.output.weight.data, full.output.bias.data = weight.flatten(1), low.bias.data
    z = torch.randn(5, 3, 4)
    torch.testing.assert_close(low(z), full(z), atol=1e-5, rtol=1e-5)


def test_of_an_absent_modality_only_the_constant_is_left() -> None:
    fusion = TensorFusion(TensorConfig(mode="full", size=2, width=4), SIZES)
    inputs = vectors()
    found = fusion(inputs, torch.tensor([[True, False, True]] * 2)).fused
    audio, video = (
        torch.tanh(fusion.project[name](inputs[name].pooled))  # what text multiplies is the constant alone
        for name in ("audio", "video")
    )
    assert isinstance(fusion.product, FullProduct)
    weight = fusion.product.output.weight.view(4, 3, 3, 3)[:, :, 0]
    ones = torch.ones(2, 1)
    wanted = torch.einsum("oik,bi,bk->bo", weight, torch.cat([ones, audio], 1), torch.cat([ones, video], 1))
    torch.testing.assert_close(found, wanted + fusion.product.output.bias)


def test_a_product_too_large_to_make_names_the_largest_size() -> None:
    with pytest.raises(ValueError, match=r"3 modalities of size 50 has 132651 entries.*size at most 49") as caught:
        TensorFusion(TensorConfig(mode="full", size=50), SIZES)
    assert "low-rank" in str(caught.value)
    TensorFusion(TensorConfig(mode="full", size=49, width=1), SIZES)
    TensorFusion(TensorConfig(mode="low-rank", size=1024, rank=1, width=1), SIZES)
