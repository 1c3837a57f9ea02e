"""Every task trains on another device: nothing that it learns from, keeps or saves is left on the wrong side."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models import training
from models.checkpoint import load_checkpoint
from models.training import cli_evaluate, cli_train, run
from models.training.manifest import DataError
from models.training.trainer import Trainer
from tests.elsewhere import ELSEWHERE, OnTheDevice
from tests.models.training.data import AUDIO, IMAGE, TEXT, make_conversations, make_data, make_experiment

FUSED = '[fusion]\ntype = "weighted-sum"\nwidth = 8\n'
UTTERANCES = "".join(
    f'[modalities.{name}]\nfeatures = "vectors"\nencoder = {{ type = "vectors-rnn", hidden = 4 }}\n'
    for name in ("text", "audio")
)
BY_STEP = '[fusion]\ntype = "contextual"\nhidden = 4\n\n[head]\nper = "step"\n'
BALANCED = 'balance = "ogm-ge"\nauxiliary = 0.5\nmodality_dropout = 0.3\nclass_weights = "balanced"'
EPOCHS = 2
CASES = {
    "classes": ("classification", (IMAGE, TEXT, FUSED), BALANCED),
    "numbers": ("regression", (IMAGE, AUDIO), "auxiliary = 0.5"),
    "captions": ("captioning", (IMAGE,), "label_smoothing = 0.1"),
    "pairs": ("embedding", (IMAGE, TEXT), ""),
    "harder pairs": ("embedding", (IMAGE, TEXT), 'contrastive_loss = "max-violation"'),
    "texts": ("generation", (TEXT,), "label_smoothing = 0.1"),
    "transcripts": ("transcription", (AUDIO,), ""),
    "classes by step": ("classification", (UTTERANCES, BY_STEP), "auxiliary = 0.5"),
    "numbers by step": ("regression", (UTTERANCES, BY_STEP), ""),
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw_curves", lambda *arguments: None)
    monkeypatch.setattr(run, "draw_confusion", lambda *arguments: None)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for CUDA gets the device that is not there."""
    monkeypatch.setattr(training, "choose_device", lambda asked: {"cuda": str(ELSEWHERE), "cpu": "cpu"}[asked])


def prepared(case: str, folder: Path) -> tuple[str, Path]:
    """The experiment and its data."""
    task, tables, settings = CASES[case]
    make = make_conversations if BY_STEP in tables else make_data
    data = make(folder / "data", train=12, val=6)
    settings = f"epochs = {EPOCHS}\nrate = 0.02\nbatch_size = 6\nminimum_count = 1\n{settings}"
    return str(make_experiment(folder / "my.toml", task, *tables, training=settings)), data


def went(run: Path) -> list[dict[str, Any]]:
    """Losses, gradients and validation figures of every epoch."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def alike(found: Path, wanted: Path, tolerance: float) -> None:
    assert len(went(found)) == len(went(wanted)) == 2 * EPOCHS
    for line, other in zip(went(found), went(wanted), strict=True):
        assert line == {
            name: pytest.approx(value, rel=tolerance, abs=tolerance) if isinstance(value, float) else value
            for name, value in other.items()
        }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("elsewhere")
def test_it_learns_there_what_it_learns_here(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml, data = prepared(case, tmp_path)
    cli_train(toml, data, tmp_path / "here")
    seen: set[torch.device] = set()
    monkeypatch.setattr(Trainer, "_update_average", spied(Trainer._update_average, seen))
    with OnTheDevice():
        cli_train(toml, data, tmp_path / "there", device="cuda")
        measured = cli_evaluate(tmp_path / "there" / "checkpoint", data, device="cuda")
    assert seen == {ELSEWHERE}
    # Some of torch's kernels for the CPU are never asked for what is elsewhere, and round otherwise.
    alike(tmp_path / "there", tmp_path / "here", 1e-3)
    assert measured["figures"] == cli_evaluate(tmp_path / "there" / "checkpoint", data)["figures"]


def spied(method: Any, seen: set[torch.device]) -> Any:
    def spy(self: Trainer, *arguments: Any) -> None:
        seen.update(parameter.device for parameter in self.model.parameters())
        method(self, *arguments)

    return spy


class Killed(Exception):
    pass


@pytest.mark.usefixtures("elsewhere")
def test_a_run_that_was_killed_there_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml, data = prepared("classes", tmp_path)
    save = Trainer._save

    def killed(self: Trainer) -> None:
        save(self)
        raise Killed

    with OnTheDevice():
        cli_train(toml, data, tmp_path / "whole", device="cuda")
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "_save", killed)
            with pytest.raises(Killed):
                cli_train(toml, data, tmp_path / "killed", device="cuda")
        cli_train(toml, data, tmp_path / "killed", device="cuda")
    alike(tmp_path / "killed", tmp_path / "whole", 0.0)
    ended = [load_checkpoint(tmp_path / name / "checkpoint").network.state_dict() for name in ("killed", "whole")]
    assert all(torch.equal(value, ended[1][name]) for name, value in ended[0].items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_it_learns_on_cuda_what_it_learns_here(case: str, tmp_path: Path) -> None:
    toml, data = prepared(case, tmp_path)
    for device in ("cpu", "cuda"):
        cli_train(toml, data, tmp_path / device, device=device)
    # Nothing drops out, but of the modalities, which are drawn on the CPU.
    alike(tmp_path / "cuda", tmp_path / "cpu", 1e-2)
    cli_evaluate(tmp_path / "cuda" / "checkpoint", data, device="cuda")


@pytest.mark.parametrize(
    ("device", "said"), [("gpu", "there is no device 'gpu'"), ("cuda", "torch finds no CUDA device")]
)
def test_a_device_that_is_not_there_is_refused(
    device: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    toml, data = prepared("classes", tmp_path)
    with pytest.raises(DataError, match=said):
        cli_train(toml, data, tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


def test_a_recipe_has_no_choice_of_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DataError, match="--device belongs to an experiment"):
        cli_train("captioner", tmp_path, tmp_path / "run", device="cuda")
