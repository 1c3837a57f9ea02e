"""What training data look like to a finished network: learned after training, or of a folder later."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import training
from models.pipeline import Pipeline
from models.training import cli_novelty, cli_train, run
from models.training.manifest import DataError
from models.training.novelty import LEAST, cross_fitted
from tests.app.test_cli import run as command
from tests.elsewhere import ELSEWHERE, OnTheDevice
from tests.models.test_novelty import drawn
from tests.models.training.data import IMAGE, TEXT, make_data, make_experiment
from tests.support import encoded_photo

PLAN = "epochs = 1\nbatch_size = 32\nminimum_count = 1"


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "draw_curves", lambda *arguments: None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def few_texts(split: str, lines: list[dict[str, object]]) -> None:
        """Every third held-back example has a text: too few."""
        for number, line in enumerate(lines):
            if split == "val" and number % 3:
                line["text"] = None

    return make_data(tmp_path_factory.mktemp("data"), train=150, val=LEAST + 10, change=few_texts)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "draw_curves", lambda *arguments: None)
        toml = make_experiment(folder / "my.toml", "regression", IMAGE, TEXT, training=PLAN)
        cli_train(str(toml), data, folder / "out")
    return folder / "out" / "checkpoint"


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """The trained checkpoint, to be changed."""
    return shutil.copytree(trained, tmp_path / "own")


def test_a_trained_checkpoint_knows_its_data(trained: Path, data: Path) -> None:
    pipeline = Pipeline.load(trained)
    assert pipeline.task.checkpoint.novelty.keys() == {"image"}
    held = [pipeline.answer({"image": path.read_bytes()}) for path in sorted(data.glob("image/val-*.png"))]
    new = [answer.notices == {"image": ["unfamiliar"]} for answer in held]
    # The 59th of 60 sets the limit, and may lie on either side of it when it is asked alone.
    assert sum(new) in (1, 2)
    strange = pipeline.answer({"image": encoded_photo(), "text": "a red thing"})
    assert strange.notices == {"image": ["unfamiliar"]}
    assert json.loads((trained / "metrics.json").read_text())["novelty"] == ["image"]
    assert "how new its image is" in (trained / "README.md").read_text()


def test_of_a_folder_it_is_learned_as_in_training(own: Path, data: Path) -> None:
    stored = load_file(own / "novelty.safetensors")
    before = {path.name: path.read_bytes() for path in own.iterdir() if path.suffix != ".safetensors"}
    (own / "novelty.safetensors").unlink()
    code, shown, _ = command("novelty", own, "--data", data)
    assert (code, shown) == (0, f"{own}: learned from 150 of image\n")
    again = load_file(own / "novelty.safetensors")
    assert stored.keys() == again.keys()
    torch.testing.assert_close(again["image.limit"], stored["image.limit"], rtol=1e-3, atol=0)
    torch.testing.assert_close(again["image.mean"], stored["image.mean"])
    assert before == {path.name: path.read_bytes() for path in own.iterdir() if path.suffix != ".safetensors"}


def test_on_another_device_it_is_learned_alike(own: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "choose_device", lambda asked: str(ELSEWHERE))
    stored = load_file(own / "novelty.safetensors")
    with OnTheDevice():
        assert cli_novelty(own, [data], "cuda") == {"image": 150}
    again = load_file(own / "novelty.safetensors")
    torch.testing.assert_close(again["image.limit"], stored["image.limit"], rtol=1e-3, atol=0)
    torch.testing.assert_close(again["image.mean"], stored["image.mean"])


def test_data_of_several_folders_are_known_together(own: Path, data: Path, tmp_path: Path) -> None:
    other = make_data(tmp_path / "other", train=40, val=30)
    assert cli_novelty(own, [data, other]) == {"image": 190, "text": 190}


@pytest.mark.parametrize("held", [LEAST - 1, 3])
def test_too_few_to_tell_are_said(own: Path, tmp_path: Path, held: int) -> None:
    few = make_data(tmp_path / "few", train=20, val=held)
    stored = (own / "novelty.safetensors").read_bytes()
    code, _, complaint = command("novelty", own, "--data", few)
    assert code == 1
    assert f"too few media to say what is new: give {LEAST} or more of a modality" in complaint
    assert (own / "novelty.safetensors").read_bytes() == stored


def test_what_cannot_be_read_is_named(own: Path, tmp_path: Path) -> None:
    broken = make_data(tmp_path / "broken", train=12, val=LEAST)
    (broken / "image" / "train-2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train\.jsonl, line 3 \(image/train-2\.png\)"):
        cli_novelty(own, [broken])
    (broken / "image" / "val-1.png").unlink()
    with pytest.raises(DataError, match=r"val\.jsonl cannot be learned from\.\nmissing files: 1"):
        cli_novelty(own, [broken])


def test_a_run_with_too_few_leaves_no_file(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", train=24, val=12)
    toml = make_experiment(tmp_path / "my.toml", "regression", IMAGE, training=PLAN)
    cli_train(str(toml), data, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoint" / "novelty.safetensors").exists()
    assert "unfamiliar" not in (tmp_path / "run" / "checkpoint" / "README.md").read_text()


def test_where_nothing_was_held_back_other_networks_tell_how_far_the_unknown_is() -> None:
    """Each network sees its own space: only how much further what it did not learn from is can be carried over."""
    turns = [torch.linalg.qr(torch.randn(24, 24))[0] for _ in range(5)]
    media = [drawn(400, seed=seed) for seed in range(4)]
    folds = [
        (torch.cat([each for other, each in enumerate(media) if other != fold]) @ turns[fold], held @ turns[fold])
        for fold, held in enumerate(media)
    ]
    fitted = cross_fitted(torch.cat(media) @ turns[4], folds)
    assert float((fitted(drawn(2000, seed=9) @ turns[4]) > 1).float().mean()) == pytest.approx(0.02, abs=0.01)
    assert bool((fitted((drawn(100, seed=5) + torch.randn(24) * 2) @ turns[4]) > 1).all())
