"""Pre-trained transformers read as they were made to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from models.sequence import Padded, pad
from models.training.manifest import DataError
from models.training.recipes.teachers import Transformer, WordPieces, buckets
from tests.models.training.recipes.transformer import pretrained

WORDS = ("good", "bad", "film", "the", "##s", "it")


@pytest.fixture(params=[False, True], ids=["minilm", "mpnet"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return pretrained(tmp_path / "weights", WORDS, mpnet=request.param)


def test_padded_texts_read_as_they_do_alone(folder: Path) -> None:
    teacher = Transformer.pretrained(folder, 2).eval()
    pieces = WordPieces(folder)(["the good film", "bad"])
    assert pieces[0].tolist() == [2, 7, 4, 6, 3]
    with torch.inference_mode():
        together = teacher({"text": pad(pieces)})
        alone = torch.cat([teacher({"text": pad([ids])}) for ids in pieces])
    assert torch.allclose(together, alone, atol=1e-5)
    in_order = teacher.answers(pieces, batch=1)
    assert torch.allclose(in_order, together.softmax(1), atol=2e-2)


def test_a_layer_is_that_of_bert(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "weights", WORDS)
    given = load_file(folder / "model.safetensors")
    ids = torch.tensor([[2, 7, 4, 6, 3]])
    x = given["embeddings.word_embeddings.weight"][ids] + given["embeddings.position_embeddings.weight"][:5]
    x = x + given["embeddings.token_type_embeddings.weight"][0]
    norm = nn.LayerNorm(12, eps=1e-12)
    norm.load_state_dict({kind: given[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias")})
    x = norm(x)
    for place in range(2):
        layer = nn.TransformerEncoderLayer(12, 12, 16, activation="gelu", layer_norm_eps=1e-12, batch_first=True).eval()
        layer.load_state_dict(_torchs(given, f"encoder.layer.{place}"))
        x = layer(x)
    teacher = Transformer.pretrained(folder).eval()
    assert torch.allclose(teacher.hidden(Padded(ids, torch.tensor([5]))), x, atol=1e-5)


def _torchs(given: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    theirs = {
        "self_attn.out_proj": "attention.output.dense",
        "norm1": "attention.output.LayerNorm",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm2": "output.LayerNorm",
    }
    kinds = ("weight", "bias")
    layer = {f"{mine}.{kind}": given[f"{name}.{other}.{kind}"] for mine, other in theirs.items() for kind in kinds}
    for kind in kinds:
        parts = [given[f"{name}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        layer[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    return layer


def test_distances_are_single_then_in_ever_longer_ranges() -> None:
    found = buckets(130)
    assert found[5, :8].tolist() == [5, 4, 3, 2, 1, 0, 17, 18]
    behind = found[:, 0]
    assert behind[:8].tolist() == list(range(8))
    # The ranges begin at 8 * 16 ** (n / 8), rounded up.
    assert [int((behind == bucket).nonzero()[0]) for bucket in range(8, 16)] == [8, 12, 16, 23, 32, 46, 64, 91]
    assert behind[-1] == 15
    assert torch.equal(found[0, 1:], behind[1:] + 16)


def test_distance_changes_what_is_read(tmp_path: Path) -> None:
    folder = pretrained(tmp_path / "weights", WORDS, mpnet=True)
    teacher = Transformer.pretrained(folder).eval()
    text = pad(WordPieces(folder)(["the good film"]))
    before = teacher.hidden(text)
    assert teacher.distances is not None
    teacher.distances.weight.data[1] += 1
    assert not torch.allclose(before, teacher.hidden(text), atol=1e-3)


def test_missing_weights_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"model\.safetensors does not exist"):
        Transformer.pretrained(tmp_path)


def test_frequent_words_are_whole(folder: Path) -> None:
    assert WordPieces(folder).whole_words(3) == ["good", "bad", "film"]
