"""What is new to a network, and how its answers say so."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from models.features import Extracted
from models.novelty import Novelty, load_novelty, save_novelty
from models.pipeline import Pipeline
from models.stored import StoredError
from models.tasks.task import Query
from tests.models.tasks.checkpoints import checkpoint, described
from tests.support import framed_photo, tiny_captioner

CLASSES = described("classification", {"type": "classification", "classes": 2}, "text", "image", labels=["no", "yes"])


def drawn(count: int, seed: int = 0) -> Tensor:
    """Vectors of 24 numbers that vary in six directions, and hardly in any other."""
    torch.manual_seed(1)
    axes, mean = torch.randn(6, 24), torch.randn(24) * 4
    torch.manual_seed(seed)
    return mean + torch.randn(count, 6) @ axes + 0.05 * torch.randn(count, 24)


def test_the_distance_is_that_of_a_gaussian_with_few_directions() -> None:
    known = drawn(400)
    fitted = Novelty.fit(known, drawn(100, seed=2), 4)
    rows = F.normalize(known.double(), dim=1)
    apart = rows - rows.mean(0)
    values, axes = torch.linalg.eigh(apart.T @ apart / len(rows))
    others = values[:-4].mean()
    # Tipping and Bishop 1999, equation 7: the leading variances as they are, and one for all that is left.
    covariance = axes[:, -4:] @ torch.diag(values[-4:] - others) @ axes[:, -4:].T + others * torch.eye(24).double()
    new = F.normalize(drawn(50, seed=3).double(), dim=1) - rows.mean(0)
    expected = (new @ torch.linalg.inv(covariance) * new).sum(1)
    torch.testing.assert_close(fitted.distance(drawn(50, seed=3)).double(), expected, rtol=1e-3, atol=1e-3)


def test_two_in_a_hundred_of_its_kind_are_new_and_all_that_vary_otherwise() -> None:
    held = drawn(1000, seed=2)
    fitted = Novelty.fit(drawn(2000), held, 6)
    assert float((fitted(held) > 1).float().mean()) == pytest.approx(0.02, abs=0.002)
    assert float((fitted(drawn(1000, seed=4)) > 1).float().mean()) < 0.04
    assert bool((fitted(drawn(100, seed=5) + torch.randn(24) * 2) > 1).all())


def test_how_long_the_vectors_are_does_not_matter() -> None:
    fitted = Novelty.fit(drawn(400), drawn(100, seed=2), 6)
    torch.testing.assert_close(fitted(drawn(20, seed=3) * 7), fitted(drawn(20, seed=3)), rtol=1e-3, atol=1e-4)
    assert bool(fitted(torch.zeros(1, 24)).isfinite().all())


@pytest.mark.parametrize("same", [torch.ones(80, 8), torch.zeros(80, 8)], ids=["ones", "zeros"])
def test_an_encoder_that_always_says_the_same_leaves_a_file_that_loads(tmp_path: Path, same: Tensor) -> None:
    fitted = Novelty.fit(same, same[:60], 4)
    save_novelty(tmp_path / "novelty.safetensors", {"image": fitted})
    again = load_novelty(tmp_path / "novelty.safetensors", {"image": 8})["image"]
    assert bool((again(same) <= 1).all())
    assert bool((again(torch.randn(20, 8)) > 1).all())


def test_vectors_that_are_no_numbers_are_new_and_finitely_so() -> None:
    fitted = Novelty.fit(drawn(400), drawn(100, seed=2), 6)
    strange = torch.stack([torch.full((24,), float("nan")), torch.full((24,), float("inf")), torch.zeros(24)])
    found = fitted(strange)
    assert bool(found.isfinite().all())
    assert bool((found[:2] > 1).all())


def test_media_that_never_vary_are_known_and_all_else_is_new() -> None:
    same = torch.ones(80, 8)
    fitted = Novelty.fit(same, same[:60] + 1e-3 * torch.randn(60, 8), 4)
    assert bool(fitted(same).isfinite().all())
    assert bool((fitted(same) <= 1).all())
    assert bool((fitted(torch.randn(20, 8)) > 1).all())


def test_what_is_written_is_read_bit_by_bit(tmp_path: Path) -> None:
    fitted = Novelty.fit(drawn(400), drawn(100, seed=2), 6)
    save_novelty(tmp_path / "novelty.safetensors", {"image": fitted})
    again = load_novelty(tmp_path / "novelty.safetensors", {"image": 24, "text": 8})
    assert again.keys() == {"image"}
    for name, value in fitted.state_dict().items():
        assert torch.equal(again["image"].state_dict()[name], value), name
    save_novelty(tmp_path / "novelty.safetensors", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"video.mean": torch.zeros(4)}, "knows 'video'"),
        ({"image.axes": torch.zeros(3, 4)}, r"image\.axes, has shape \(3, 4\), but the config makes it \(3, 3\)"),
        ({"image.axes": torch.zeros(9, 3)}, r"image\.axes, has shape \(9, 3\) for vectors of 3"),
        ({"image.axes": torch.zeros(0, 3)}, r"image\.axes, has shape \(0, 3\)"),
        ({"image.mean": torch.tensor([0.0, float("nan"), 0.0])}, r"image\.mean, holds NaN or infinity"),
        ({"image.mean": torch.zeros(3, dtype=torch.float64)}, r"image\.mean, has dtype F64"),
        ({"image.limit": torch.zeros(())}, "image, has a distance below 0"),
        ({"image.precision": -torch.ones(2)}, "image, has a distance below 0"),
        ({"image.other": torch.zeros(1)}, r"has unknown 1 tensors: image\.other"),
    ],
    ids=["modality", "size", "directions", "none", "nan", "dtype", "limit", "precision", "name"],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Tensor], reason: str) -> None:
    saved = checkpoint(described("regression", {"type": "regression"}, "image"))
    save_checkpoint(tmp_path, saved.config, saved.network, saved.tokenizer)
    path = tmp_path / "novelty.safetensors"
    sizes = dict(saved.network.sizes.modalities)
    small = Novelty(sizes["image"], 1)
    save_novelty(path, {"image": small})
    assert load_checkpoint(tmp_path).novelty.keys() == {"image"}
    save_checkpoint(tmp_path, saved.config, saved.network, saved.tokenizer)
    assert load_checkpoint(tmp_path).novelty == {}, "other weights know other things"
    # The changes are written for vectors of 3 numbers.
    save_novelty(path, {"image": Novelty(3, 1)})
    save_file(load_file(path) | change, path)
    with pytest.raises(StoredError, match=reason):
        load_novelty(path, {"image": 3})
    with pytest.raises(CheckpointError, match=r"novelty\.safetensors"):
        load_checkpoint(tmp_path)
    path.write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        load_checkpoint(tmp_path)


def knowing(pipeline: Pipeline, **limits: float) -> Pipeline:
    """The pipeline, with a novelty of these limits for what is unlike vectors of ones."""
    novelty = pipeline.task.checkpoint.novelty
    assert isinstance(novelty, dict)
    for name, limit in limits.items():
        size = pipeline.network.sizes.modalities[name]
        novelty[name] = Novelty(size, 1)
        novelty[name].limit.fill_(limit)
    return pipeline


def asked(pipeline: Pipeline, *bundles: dict[str, Tensor]) -> list[dict[str, Any]]:
    queries = [Query(Extracted(bundle), pipeline.options()) for bundle in bundles]
    return [result.model_dump(exclude_none=True) for result in pipeline.predict_batch(queries)]


def test_an_answer_says_what_is_new_and_is_otherwise_the_same() -> None:
    plain = Pipeline(checkpoint(CLASSES), runtime="torch")
    knows = knowing(Pipeline(checkpoint(CLASSES), runtime="torch"), image=0.5, text=100.0)
    torch.manual_seed(0)
    both = {"image": torch.randn(3, 3), "text": torch.tensor([4, 5])}
    (answer,) = asked(knows, both)
    (before,) = asked(plain, both)
    assert answer.pop("notices") == {"image": ["unfamiliar"]}
    novelty = {name: modality.pop("novelty") for name, modality in answer["modalities"].items()}
    assert novelty["image"] == pytest.approx(2, abs=1e-3)
    assert novelty["text"] == pytest.approx(0.01, abs=1e-3)
    assert answer == before
    assert "notices" not in before


def test_in_a_batch_it_is_said_of_each_row_by_itself() -> None:
    knows = knowing(Pipeline(checkpoint(CLASSES), runtime="torch"), image=0.5)
    torch.manual_seed(0)
    bundles = [
        {"image": torch.randn(3, 3), "text": torch.tensor([4, 5])},
        {"text": torch.tensor([6])},
        {"image": torch.randn(1, 3)},
    ]
    together = asked(knows, *bundles)
    for answer, bundle in zip(together, bundles, strict=True):
        (alone,) = asked(knows, bundle)
        assert answer["modalities"].keys() == bundle.keys()
        assert ("image" in answer.get("notices", {})) == ("image" in bundle)
        assert answer["modalities"].get("image") == pytest.approx(alone["modalities"].get("image"), abs=1e-3)


@pytest.mark.parametrize(
    "config",
    [
        described("regression", {"type": "regression"}, "text", "image"),
        described("embedding", {"type": "embedding", "size": 4}, "text", "image"),
        described(
            "transcription", {"type": "transcription", "vocabulary": 9}, "image",
            fusion={"type": "recurrent", "hidden": 8},
        ),
    ],
    ids=lambda config: config.task,
)  # fmt: skip
def test_every_task_says_it(config: Any) -> None:
    knows = knowing(Pipeline(checkpoint(config), runtime="torch"), image=0.5)
    assert asked(knows, {"image": torch.randn(4, 3)})[0]["notices"] == {"image": ["unfamiliar"]}


def test_a_caption_says_it_told_or_not_beside_other_notices(tmp_path: Path) -> None:
    knows = knowing(Pipeline.load(tiny_captioner(tmp_path / "captioner")), image=1e-3)
    features = knows.features(knows.decode({"image": framed_photo()}))
    assert features.notices == {"image": ["borders"]}
    answer = knows.predict(features, knows.options()).model_dump(exclude_none=True)
    assert answer["notices"] == {"image": ["borders", "unfamiliar"]}
    *_, last = knows.stream(features, knows.options())
    assert last == {"result": answer}
    assert features.notices == {"image": ["borders"]}
