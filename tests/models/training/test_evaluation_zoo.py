"""Shipped checkpoints are measured again on the data of their own."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.settings import ZOO as SHIPPED
from models.training.evaluation.zoo import ZOO, Line, measure_all
from models.training.manifest import DataError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, texts in {"sst2": ("good fun", "a dull film"), "chn_hotel": ("很好的酒店", "很差的房间")}.items():
        (tmp_path / name).mkdir()
        lines = [{"text": text, "label": label} for text, label in zip(texts, ("positive", "negative"), strict=True)]
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        for split in ("train", "val"):
            (tmp_path / name / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_every_shipped_checkpoint_is_known() -> None:
    assert {folder.name for folder in SHIPPED.iterdir() if folder.is_dir()} <= ZOO.keys()


def test_figures_stand_beside_those_that_came_with_the_checkpoint(data: Path, tmp_path: Path) -> None:
    lines = {line.figure: line for line in measure_all([SHIPPED / "sentiment"], data, tmp_path / "cache")}
    recorded = json.loads((SHIPPED / "sentiment" / "metrics.json").read_text())["figures"]
    accuracy = lines["chn_hotel, accuracy"]
    assert accuracy.recorded == recorded["chn_hotel"]["accuracy"]
    assert accuracy.measured[0] == 1
    assert accuracy.differs()


def test_what_is_measured_again_of_the_baselines_stands_beside_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {"wer": [0.6667, 0.1, 1.3], "sound only, 0 dB": {"wer": [50.0, 40.0, 60.0]}}
    monkeypatch.setattr("models.training.evaluation.zoo.ZOO", {"av-speech": lambda *_: again})
    lines = {line.figure: line for line in measure_all([SHIPPED / "av-speech"], tmp_path, tmp_path)}
    recorded = json.loads((SHIPPED / "av-speech" / "metrics.json").read_text())
    assert lines["sound only, 0 dB, wer"].recorded == recorded["baselines"]["sound only, 0 dB"]["wer"]
    assert lines["sound only, 0 dB, wer"].differs()
    assert not lines["wer"].differs()
    assert lines["sentence_error"].measured is None


def test_what_only_training_makes_is_said_as_it_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.evaluation.zoo.ZOO", {"sound-events": lambda *_: {"recordings": {"WAV": 0.5}}})
    lines = {line.figure: line for line in measure_all([SHIPPED / "sound-events"], tmp_path, tmp_path)}
    recorded = json.loads((SHIPPED / "sound-events" / "metrics.json").read_text())
    assert lines["recordings, WAV"].recorded == recorded["recordings"]["WAV"]
    assert lines["recordings, WAV"].measured == 0.5
    for name, figure in {"accuracy": recorded["figures"]["accuracy"], "folds, 3": recorded["folds"]["3"]}.items():
        assert (lines[name].recorded, lines[name].measured) == (figure, None)


def test_rounding_is_no_difference() -> None:
    assert not Line("a", "b", [0.9, 0.8, 1.0], [0.9004, 0.7, 1.0]).differs()
    assert Line("a", "b", 0.9, 0.91).differs()
    assert not Line("a", "b", 0.9, None).differs()
    assert not Line("a", "b, expected_calibration_error", 0.0642, 0.0661).differs()
    assert Line("a", "b, expected_calibration_error", 0.0642, 0.0663).differs()


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sst2"):
        list(measure_all([SHIPPED / "sentiment"], tmp_path, tmp_path / "cache"))


def test_the_command_prints_a_line_a_figure(data: Path, tmp_path: Path) -> None:
    zoo = tmp_path / "zoo"
    zoo.mkdir()
    (zoo / "sentiment").symlink_to(SHIPPED / "sentiment")
    done = CliRunner().invoke(app, ["evaluate", "--all", "--data", str(data), "--model-dir", str(zoo)])
    assert done.exit_code == 0, done.output
    assert "sentiment\tsst2, accuracy\t" in done.output
    neither = CliRunner().invoke(app, ["evaluate", "--data", str(data)])
    assert neither.exit_code == 1
    assert "--all" in neither.output
