"""From a TOML file and a data folder to a checkpoint that answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.media.limits import MediaLimits
from models.pipeline import Pipeline
from models.training import cli_evaluate, cli_train, run
from models.training.manifest import DataError
from models.training.stage import FusionStage
from models.training.trainer import DivergedError
from tests.models.training.data import AUDIO, IMAGE, TEXT, VECTORS, make_data, make_experiment

HEAD = "[head]\nhidden = 8\nembedding = 8\nattention = 4\n"
FUSED = '[fusion]\ntype = "concat"\nwidth = 8\n'


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training here: only the test that looks at the pictures has them drawn."""
    if "pictures" not in request.node.name:
        monkeypatch.setattr(run, "draw_curves", lambda *arguments: None)
        monkeypatch.setattr(run, "draw_confusion", lambda *arguments: None)


@pytest.mark.parametrize(
    ("task", "tables", "figure", "answer"),
    [
        ("classification", (IMAGE, TEXT, AUDIO, FUSED), "accuracy", "predictions"),
        ("classification", (IMAGE, TEXT, '[fusion]\ntype = "decision"\n'), "macro_f1", "predictions"),
        ("regression", (TEXT, FUSED), "mae", "value"),
        ("transcription", (AUDIO,), "wer", "text"),
        ("embedding", (IMAGE, TEXT, FUSED, "[head]\nsize = 8\n"), "image to text", "embeddings"),
        ("captioning", (IMAGE, FUSED, HEAD), "en, greedy", "captions"),
        ("generation", (TEXT, FUSED), "perplexity", "text"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_task_trains_serves_and_is_measured(
    tmp_path: Path, data: Path, task: str, tables: tuple[str, ...], figure: str, answer: str
) -> None:
    toml = make_experiment(
        tmp_path / "my.toml", task, *tables, training="epochs = 2\nbatch_size = 8\nminimum_count = 1"
    )
    cli_train(str(toml), data, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoint"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert figure in metrics["figures"]
    assert {"dataset", "split", "n", "command", "seed"} <= metrics.keys()
    assert "bootstrap" in (folder / "README.md").read_text()
    again = cli_evaluate(folder, data)
    assert again["figures"] == metrics["figures"]
    pipeline = Pipeline.load(folder)
    pipeline.warm_up()
    bundle: dict[Any, Any] = {"text": ["a red thing"]} if TEXT in tables else {}
    for part in ("image", "audio"):
        if part in pipeline.config.modalities:
            bundle[part] = [next((data / part).iterdir()).read_bytes()]
    result = pipeline.predict(pipeline.features(pipeline.decode(bundle, MediaLimits())), pipeline.options())
    assert answer in result.model_dump(exclude_none=True)


def test_it_learns_calibrates_and_beats_the_constant_answer(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(
        tmp_path / "my.toml", "classification", TEXT, IMAGE, FUSED,
        training="epochs = 8\nbatch_size = 8\nrate = 0.02\nminimum_count = 1\nmodality_dropout = 0.2",
    )  # fmt: skip
    cli_train(str(toml), data, tmp_path / "run", baselines=True)
    metrics = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())
    assert metrics["figures"]["accuracy"][0] == 1
    assert metrics["baselines"]["always 'blue'"]["accuracy"][0] == pytest.approx(1 / 3, abs=1e-3)
    assert {"text alone", "image alone"} <= metrics["baselines"].keys()
    assert metrics["calibration"]["error_after"] <= metrics["calibration"]["error_before"]
    assert metrics["figures"]["expected_calibration_error"] == pytest.approx(
        metrics["calibration"]["error_after"], abs=0.01
    )
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["splits"]["train"]["target"]["classes"] == {"blue": 8, "green": 8, "red": 8}


def test_pictures_show_the_run(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, FUSED, training="epochs = 1")
    cli_train(str(toml), data, tmp_path / "run")
    for picture in ("confusion.png", "curves.png"):
        assert (tmp_path / "run" / picture).read_bytes().startswith(b"\x89PNG")


class Killed(Exception):
    pass


@pytest.mark.parametrize("kill_at", [2, 7])
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int
) -> None:
    toml = make_experiment(
        tmp_path / "my.toml", "classification", TEXT, IMAGE.replace("width", "dropout = 0.3, width"), FUSED,
        training='epochs = 3\nbatch_size = 8\nminimum_count = 1\nmodality_dropout = 0.3\nauxiliary = 0.5\n'
        'balance = "ogm-ge"',
    )  # fmt: skip
    cli_train(str(toml), data, tmp_path / "whole")
    whole_loss, calls = FusionStage.loss, 0

    def killed(self: FusionStage, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise Killed
        return whole_loss(self, batch)

    monkeypatch.setattr(FusionStage, "loss", killed)
    with pytest.raises(Killed):
        cli_train(str(toml), data, tmp_path / "killed")
    monkeypatch.undo()
    cli_train(str(toml), data, tmp_path / "killed")
    one, other = (load_file(tmp_path / run / "checkpoint" / "model.safetensors") for run in ("whole", "killed"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name])


def test_a_folder_of_another_experiment_is_not_gone_on_with(tmp_path: Path, data: Path) -> None:
    training = "epochs = 1\nbatch_size = 8\nminimum_count = 1"
    toml = make_experiment(tmp_path / "my.toml", "regression", TEXT, FUSED, training=training)
    cli_train(str(toml), data, tmp_path / "run")
    make_experiment(toml, "regression", TEXT, FUSED, training=training + "\nrate = 0.5")
    with pytest.raises(DataError, match="another experiment, or of other data: give another --out"):
        cli_train(str(toml), data, tmp_path / "run")


def test_a_diverging_run_stops_with_a_message(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = make_experiment(tmp_path / "my.toml", "regression", TEXT, FUSED)
    loss = FusionStage.loss

    def exploding(self: FusionStage, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        value, figures = loss(self, batch)
        return value * float("inf"), figures

    monkeypatch.setattr(FusionStage, "loss", exploding)
    with pytest.raises(DivergedError, match="epoch 1, step 0: loss inf; lower the learning rate"):
        cli_train(str(toml), data, tmp_path / "run")


@pytest.mark.parametrize("strides", ["1", "2"])
def test_transcripts_too_long_for_their_sound_are_named_and_left_out(tmp_path: Path, strides: str) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        lines[1]["target_text"] = "red " * 60

    folder = make_data(tmp_path / "data", train=6, val=3, change=change)
    audio = AUDIO.replace("strides = [1]", f"strides = [{strides}]")
    toml = make_experiment(
        tmp_path / "my.toml", "transcription", audio, training="left_out = 0.4\nepochs = 1\nminimum_count = 1"
    )
    cli_train(str(toml), folder, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert list(report["faults"]) == ["transcripts too long for their steps"]
    places = [where for where, _ in report["faults"]["transcripts too long for their steps"]]
    assert places == ["train.jsonl, line 2 (audio/train-1.wav)", "val.jsonl, line 2 (audio/val-1.wav)"]
    assert "60 words need 119 steps, and there are " in report["faults"]["transcripts too long for their steps"][0][1]
    assert [split["used"] for split in report["splits"].values()] == [5, 2]


def test_regions_of_pictures_are_steps_that_spell(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["target_text"] = "this is red"

    folder = make_data(tmp_path / "data", train=6, val=3, change=change)
    image = IMAGE.replace("size = 8", "size = 32")
    toml = make_experiment(tmp_path / "my.toml", "transcription", image, training="epochs = 1")
    cli_train(str(toml), folder, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["faults"] == {}


@pytest.mark.parametrize(
    ("fusion", "centre", "spread"),
    [
        (FUSED, 200_000, 50_000),
        (FUSED, 20_007, 5),
        (FUSED, 0, 1e-8),
        ('[fusion]\ntype = "decision"\ncombine = "mean"\n', 50, 20),
        ('[fusion]\ntype = "decision"\n', 50, 20),
        ('[fusion]\ntype = "decision"\ncombine = "stacked"\n', 50, 20),
    ],
    ids=["large", "far from 0", "small", "mean", "weighted", "stacked"],
)
def test_numbers_of_any_unit_are_learned_and_saved(tmp_path: Path, fusion: str, centre: float, spread: float) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["value"] = centre + spread * (line["value"] - 5) / 8

    folder = make_data(tmp_path / "data", change=change)
    toml = make_experiment(
        tmp_path / "my.toml", "regression", TEXT, IMAGE, fusion,
        training="epochs = 15\nbatch_size = 8\nrate = 0.02\nminimum_count = 1",
    )  # fmt: skip
    cli_train(str(toml), folder, tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())["figures"]
    # A deviation is 1.02 of the spread, and the mean as the answer would err by 0.83 of it.
    assert 0 < figures["mae"][0] < 0.3 * spread
    assert figures["correlation"][0] > 0.95


def test_several_numbers_are_no_decision(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            line["value"] = [line["value"], 1.0]

    folder = make_data(tmp_path / "data", train=6, val=3, change=change)
    toml = make_experiment(tmp_path / "my.toml", "regression", TEXT, '[fusion]\ntype = "decision"\n')
    with pytest.raises(DataError, match="decides on one number or among classes, not on 2 numbers"):
        cli_train(str(toml), folder, tmp_path / "run")


def test_ready_vectors_train_and_serve(tmp_path: Path) -> None:
    folder = make_data(tmp_path / "data", vectors=True)
    toml = make_experiment(tmp_path / "my.toml", "regression", VECTORS, FUSED, training="epochs = 2")
    cli_train(str(toml), folder, tmp_path / "run")
    config = Pipeline.load(tmp_path / "run" / "checkpoint").config
    assert config.modalities["video"].features.model_dump()["size"] == 4


def test_another_field_can_be_the_target(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(
        tmp_path / "my.toml", "classification", IMAGE, FUSED, top='target = "text"', training="epochs = 1"
    )
    cli_train(str(toml), data, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoint"
    assert Pipeline.load(folder).config.labels == ["a blue thing", "a green thing", "a red thing"]
    assert cli_evaluate(folder, data)["target"] == "text"
    with pytest.raises(DataError, match="has the label 'blue', which the checkpoint does not know"):
        cli_evaluate(folder, data, target="label")
