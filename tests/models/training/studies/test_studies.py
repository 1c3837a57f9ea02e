"""Each study from its data to its page, tiny."""

from pathlib import Path

import pytest
import torch

from models.training.manifest import DataError
from models.training.studies import STUDIES, gradients, missing_modality, mosi, run_study
from models.training.studies.baselines import logistic_regression, majority
from models.training.studies.gradients import (
    DISTANCES,
    VARIANTS,
    Recall,
    Training,
    gradient_norms,
    run_variant,
    sequences,
)
from models.training.studies.mosi import FUSIONS_TRIED
from models.training.studies.mosi_page import CONTEXTUAL
from tests.models.training.studies.mosi import write_mosi


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two fusions and two cells are enough to try a study's way from data to page."""
    fusions = {name: FUSIONS_TRIED[name] for name in ("concat", CONTEXTUAL)}
    for module in (mosi, missing_modality):
        monkeypatch.setattr(module, "FUSIONS_TRIED", fusions)
    monkeypatch.setattr(gradients, "VARIANTS", {name: VARIANTS[name] for name in ("GRU, clipped", "LSTM, clipped")})
    monkeypatch.setattr(gradients, "ROWS", 8)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_writes_its_page_and_goes_on_from_what_is_kept(name: str, tmp_path: Path) -> None:
    write_mosi(tmp_path)
    page = run_study(name, tmp_path, tmp_path / "out", seeds=2, quick=True)
    text = page.read_text(encoding="utf-8")
    assert f"fusionrnn study {name} " in text
    assert all(line.startswith(("|", "    ")) or len(line) <= 120 for line in text.splitlines())
    for row in gradients.VARIANTS if name == "gradients" else mosi.FUSIONS_TRIED:
        assert f"| {row} |" in text
    if name != "mosi":
        assert (page.parent / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "quick").rglob("*") if path.is_file()}
    page.unlink()
    run_study(name, tmp_path, tmp_path / "out", seeds=2, quick=True)
    assert page.read_text(encoding="utf-8") == text
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_study_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are gradients, missing-modality, mosi"):
        run_study("mossi", tmp_path, tmp_path, seeds=2, quick=True)
    with pytest.raises(DataError, match="at least 2"):
        run_study("mosi", tmp_path, tmp_path, seeds=1, quick=True)
    with pytest.raises(DataError, match="--data"):
        run_study("mosi", None, tmp_path, seeds=2, quick=True)


def test_logistic_regression_finds_its_minimum() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(60, 3), torch.randint(2, (60,))
    layer = logistic_regression(x, labels, 0.1)
    loss = torch.nn.functional.cross_entropy(layer(x), labels) + 0.05 * layer.weight.square().sum()
    gradients = torch.autograd.grad(loss, list(layer.parameters()))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-4
    assert majority(torch.tensor([0, 1, 1]), 4).argmax(1).tolist() == [1, 1, 1, 1]


def test_the_first_symbol_is_the_answer() -> None:
    x, symbols = sequences(50, 6, torch.Generator().manual_seed(0))
    assert x.shape == (50, 7, 8)
    assert torch.equal(x[:, 0].argmax(1), symbols)
    assert int(x[:, 1:].argmax(2).min()) >= 4


def test_gradient_norms_are_those_of_back_propagation() -> None:
    """Against the product of Jacobians of a linear recurrence, written out."""
    torch.manual_seed(0)
    network = Recall(VARIANTS["Elman, relu, identity start, clipped"], 5)
    for name, parameter in network.rnn.named_parameters():
        # All pre-activations positive: the relu lets everything through and the Jacobian is W_hh.
        torch.nn.init.constant_(parameter, 0.1) if "hh" not in name else None
    torch.nn.init.zeros_(network.output.weight)
    norms = gradient_norms(network, torch.Generator().manual_seed(0))
    assert norms == [0.0] * len(DISTANCES)
    torch.nn.init.normal_(network.output.weight)
    norms = gradient_norms(network, torch.Generator().manual_seed(0))
    assert norms == pytest.approx([norms[0]] * len(DISTANCES), rel=1e-3)


def test_a_short_distance_is_learned() -> None:
    result = run_variant(VARIANTS["GRU, clipped"], [1], Training(steps=60, hidden=8, rate=0.05), seed=0)
    assert result["accuracy"] == [1.0]
    assert len(result["before"]) == len(DISTANCES)
    assert result["largest"][0] > 0
