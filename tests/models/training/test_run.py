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
from models.training.experiment import ExperimentError
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
    assert {name: found["n"] for name, found in metrics["alone"].items()} == {"text": 12, "image": 12}
    assert metrics["alone"]["text"]["fused"] == metrics["figures"]
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


def test_a_folder_in_which_a_run_is_at_work_is_not_written_to(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, FUSED, training="epochs = 1\nbatch_size = 24")
    run, loss = tmp_path / "run", FusionStage.loss

    def meanwhile(self: FusionStage, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
        monkeypatch.undo()
        with pytest.raises(DataError, match=r"run is in use by another run: wait until that has ended, or give anoth"):
            cli_train(str(toml), data, run)
        assert not (run / "resume.pt").exists()
        return loss(self, batch)

    monkeypatch.setattr(FusionStage, "loss", meanwhile)
    cli_train(str(toml), data, run)
    # It is free again.
    cli_train(str(toml), data, run)


def test_a_folder_of_another_experiment_is_not_gone_on_with(tmp_path: Path, data: Path) -> None:
    training = "epochs = 1\nbatch_size = 8\nminimum_count = 1"
    toml = make_experiment(tmp_path / "my.toml", "regression", TEXT, FUSED, training=training)
    cli_train(str(toml), data, tmp_path / "run")
    make_experiment(toml, "regression", TEXT, FUSED, training=training + "\nrate = 0.5")
    with pytest.raises(DataError) as refused:
        cli_train(str(toml), data, tmp_path / "run")
    first, *differences = str(refused.value).splitlines()
    assert "another experiment, or of other data: give another --out" in first
    assert differences == ["  training.rate: 0.001 there, 0.5 here"]


def test_what_needs_no_training_may_change_afterwards(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, FUSED, training="epochs = 1")
    cli_train(str(toml), data, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoint"
    log, weights = (tmp_path / "run" / "log.jsonl").read_text(), (folder / "model.safetensors").read_bytes()
    make_experiment(
        toml, "classification", TEXT, FUSED, "[defaults]\ntop_k = 2\n", training="epochs = 1",
        top='version = "1.1.0"\ndescription = "Tells colours."\nterms = "Mine."',
    )  # fmt: skip
    cli_train(str(toml), data, tmp_path / "run")
    config = Pipeline.load(folder).config
    assert (config.version, config.description, config.defaults["top_k"]) == ("1.1.0", "Tells colours.", 2)
    assert "Mine." in (folder / "README.md").read_text()
    assert (tmp_path / "run" / "log.jsonl").read_text() == log
    assert (folder / "model.safetensors").read_bytes() == weights


def test_what_is_known_of_the_same_weights_is_kept_and_of_others_is_not(tmp_path: Path, data: Path) -> None:
    training = "epochs = 1\nminimum_count = 1\nseed = 5"
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, IMAGE, FUSED, training=training)
    folder = tmp_path / "run" / "checkpoint"
    cli_train(str(toml), data, tmp_path / "run", 0, baselines=True)
    cli_evaluate(folder, make_data(tmp_path / "other", train=6, val=3), save=True)
    before = json.loads((folder / "metrics.json").read_text())
    assert [entry["dataset"] for entry in before["elsewhere"]] == ["other"]
    assert before["command"].endswith("--seed 0 --baselines")
    make_experiment(toml, "classification", TEXT, IMAGE, FUSED, top='terms = "Mine."', training=training)
    cli_train(str(toml), data, tmp_path / "run", 0)
    assert json.loads((folder / "metrics.json").read_text()) == before
    card = (folder / "README.md").read_text()
    assert "Mine." in card
    assert "Beside a network of text alone" in card
    (tmp_path / "run" / "resume.pt").unlink()
    cli_train(str(toml), data, tmp_path / "run", 1)
    after = json.loads((folder / "metrics.json").read_text())
    assert before.keys() - after.keys() == {"alone", "baselines", "elsewhere"}
    assert after["command"].endswith("--seed 1")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "regression", TEXT, FUSED, training="epochs = 1")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.json").write_text('{"name": "mine"}')
    with pytest.raises(DataError, match=r"holds experiment\.json.* and no run of an experiment: give another --out"):
        cli_train(str(toml), data, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["experiment.json"]


def test_a_folder_whose_media_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = make_data(tmp_path / "data", train=6, val=3)
    toml = make_experiment(tmp_path / "my.toml", "classification", IMAGE, FUSED, training="epochs = 1")
    cli_train(str(toml), folder, tmp_path / "run")
    cache = sorted((tmp_path / "run" / "cache").iterdir())
    photo = folder / "image" / "train-1.png"
    kept = photo.read_bytes()
    photo.write_bytes((folder / "image" / "train-4.png").read_bytes())
    with pytest.raises(
        DataError, match=r"another experiment, or of other data: .*\n  the data: another train.jsonl or"
    ):
        cli_train(str(toml), folder, tmp_path / "run")
    # Nothing was lost by asking.
    assert sorted((tmp_path / "run" / "cache").iterdir()) == cache
    photo.write_bytes(kept)
    cli_train(str(toml), folder, tmp_path / "run")


def test_baselines_go_on_where_a_modality_cannot_be_trained_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            if split == "val":
                del line["image"]
            if line["label"] != "red":
                del line["audio"]

    folder = make_data(tmp_path / "data", train=6, val=3, change=change)
    toml = make_experiment(tmp_path / "my.toml", "classification", IMAGE, AUDIO, TEXT, FUSED, training="epochs = 1")
    cli_train(str(toml), folder, tmp_path / "run", baselines=True)
    metrics = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())
    assert metrics["baselines"].keys() == {"always 'blue'"}
    assert metrics["alone"].keys() == {"text"}
    said = capsys.readouterr().out
    assert "No baseline of image alone: 3 of 3 examples of val.jsonl cannot be used" in said
    assert "No baseline of audio alone: The data cannot be used.\ntoo few classes: 1." in said


def test_a_modality_alone_is_compared_on_the_examples_that_have_it(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines[:4] if split == "val" else ():
            # Where the picture is missing, the text says another colour.
            del line["image"]
            line["text"] = "a red thing" if line["label"] != "red" else "a blue thing"

    folder = make_data(tmp_path / "data", change=change)
    toml = make_experiment(
        tmp_path / "my.toml", "classification", TEXT, IMAGE, FUSED,
        training="epochs = 8\nbatch_size = 8\nrate = 0.02\nminimum_count = 1",
    )  # fmt: skip
    cli_train(str(toml), folder, tmp_path / "run", baselines=True)
    metrics = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())
    image = metrics["alone"]["image"]
    assert (metrics["n"], metrics["alone"]["text"]["n"], image["n"]) == (12, 12, 8)
    # All that is wrong together is wrong where there is no picture.
    assert metrics["figures"]["accuracy"][0] < image["fused"]["accuracy"][0] == 1
    card = (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    assert "Beside a network of image alone, on the 8 examples that have it:" in card


def test_a_photo_on_several_lines_is_measured_as_one(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for place, line in enumerate(lines):
            line |= {"image": lines[0]["image"], "text": f"word{place}"}

    folder = make_data(tmp_path / "data", train=6, val=12, change=change)
    toml = make_experiment(tmp_path / "my.toml", "embedding", IMAGE, TEXT, training="epochs = 1\nminimum_count = 1")
    cli_train(str(toml), folder, tmp_path / "run")
    figures = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())["figures"]
    # There is but one photo, to which every text belongs.
    assert figures["image to text"]["recall_at_1"] == figures["text to image"]["recall_at_1"] == [100, 100, 100]


def test_a_language_is_measured_on_the_photos_that_have_it(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines[::2]:
            del line["captions"]["zh"]

    def alone(split: str, lines: list[dict[str, Any]]) -> None:
        del lines[::2]

    toml = make_experiment(tmp_path / "my.toml", "embedding", IMAGE, TEXT, training="epochs = 1\nminimum_count = 1")
    cli_train(str(toml), make_data(tmp_path / "data", train=6, val=12, change=change), tmp_path / "run")
    few = make_data(tmp_path / "few", train=6, val=12, change=alone)
    both, chinese = (
        cli_evaluate(tmp_path / "run" / "checkpoint", data, target="captions")["figures"]
        for data in (tmp_path / "data", few)
    )
    for direction in ("zh, image to text", "zh, text to image"):
        assert both[direction] == chinese[direction]


@pytest.mark.parametrize(
    ("task", "tables", "said"),
    [
        ("classification", (TEXT, FUSED, "[defaults]\ntop_k = 0\n"), r"defaults\.top_k: .*greater than or equal"),
        ("classification", (TEXT, FUSED, "[defaults]\ntop_k = 4\n"), r"defaults\.top_k: .*less than or equal to 3"),
        ("classification", (TEXT, FUSED, "[defaults]\ntop_kk = 3\n"), r"unknown key 'top_kk': did you mean 'top_k'\?"),
        ("classification", (TEXT, FUSED, "[defaults]\ntemperature = 0\n"), r"defaults.temperature is 0"),
        ("regression", (TEXT, FUSED, "[defaults]\nunit = 3\n"), r"unknown key 'unit': there are none"),
        ("generation", (TEXT.replace("hidden", "bidirectional = true, hidden"), FUSED), "its encoder must be causal"),
        ("generation", ('[modalities.text]\nencoder = "text-bag"\n', FUSED), "must remember the tokens before"),
    ],
    ids=["low", "high", "unknown", "temperature", "none", "not causal", "no memory"],
)  # fmt: skip
def test_what_could_not_be_served_is_not_trained(
    tmp_path: Path, data: Path, task: str, tables: tuple[str, ...], said: str
) -> None:
    toml = make_experiment(tmp_path / "my.toml", task, *tables)
    with pytest.raises(ExperimentError, match=said):
        cli_train(str(toml), data, tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_texts_without_a_frequent_word_are_refused_with_the_setting(tmp_path: Path, data: Path) -> None:
    training = "epochs = 1\nminimum_count = 500"
    for task, part in (("classification", TEXT), ("captioning", IMAGE), ("transcription", AUDIO)):
        toml = make_experiment(tmp_path / "my.toml", task, part, training=training)
        with pytest.raises(DataError, match="no word is 500 times in the training texts, which `minimum_count` in"):
            cli_train(str(toml), data, tmp_path / task)


def test_a_target_that_is_not_there_is_refused_with_the_fields_that_are(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, top='target = "emotion"')
    with pytest.raises(DataError, match="there is no 'emotion', but image, audio, text, label, value, target_text, ca"):
        cli_train(str(toml), data, tmp_path / "run")


def test_no_other_field_stands_in_for_a_target_that_was_named(tmp_path: Path, data: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "captioning", IMAGE, FUSED, HEAD, top='target = "headlines"')
    with pytest.raises(DataError, match="there is no 'headlines', but image, audio, text, label, value, target_text"):
        cli_train(str(toml), data, tmp_path / "run")


def test_measuring_names_a_field_that_is_missing_and_no_setting_of_training(tmp_path: Path) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        for line in lines if split == "val" else ():
            del line["value"]

    toml = make_experiment(tmp_path / "my.toml", "regression", TEXT, FUSED, training="epochs = 1\nminimum_count = 1")
    cli_train(str(toml), make_data(tmp_path / "data", train=6, val=3), tmp_path / "run")
    other = make_data(tmp_path / "other", train=6, val=3, change=change)
    with pytest.raises(DataError, match=r"line 1: there is no 'value', but image, audio, text, label") as refused:
        cli_evaluate(tmp_path / "run" / "checkpoint", other)
    assert "[training]" not in str(refused.value)


def test_what_training_left_out_is_left_out_of_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(split: str, lines: list[dict[str, Any]]) -> None:
        if split == "val":
            lines[0]["label"], lines[1]["image"] = None, "broken.png"

    folder = make_data(tmp_path / "data", train=6, val=6, change=change)
    (folder / "broken.png").write_bytes((folder / "image" / "val-1.png").read_bytes()[:60])
    toml = make_experiment(tmp_path / "my.toml", "classification", IMAGE, FUSED, training="epochs = 1\nleft_out = 0.4")
    cli_train(str(toml), folder, tmp_path / "run")
    trained = json.loads((tmp_path / "run" / "checkpoint" / "metrics.json").read_text())
    assert "On 4 of 6 examples of `val`" in (tmp_path / "run" / "checkpoint" / "README.md").read_text()
    capsys.readouterr()
    found = cli_evaluate(tmp_path / "run" / "checkpoint", folder)
    assert (found["n"], found["total"], found["figures"]) == (4, 6, trained["figures"])
    said = capsys.readouterr().err
    assert "Measured on 4 of the 6 examples of val.jsonl." in said
    assert "val.jsonl, line 1: 'label' must be a label" in said
    assert "val.jsonl, line 2 (broken.png): " in said
    (folder / "image" / "val-2.png").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"3 of 6 examples of val.jsonl cannot .*; the checkpoint's training allows 40%"
    ):
        cli_evaluate(tmp_path / "run" / "checkpoint", folder)


def test_defaults_are_served(tmp_path: Path, data: Path) -> None:
    defaults = "[defaults]\ntop_k = 2\ntemperature = 3.0\n"
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, FUSED, defaults, training="epochs = 1")
    cli_train(str(toml), data, tmp_path / "run")
    pipeline = Pipeline.load(tmp_path / "run" / "checkpoint")
    assert pipeline.options().model_dump() == {"top_k": 2}
    assert pipeline.config.defaults["temperature"] == 3


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
    checkpoint = tmp_path / "run" / "checkpoint"
    assert (
        cli_evaluate(checkpoint, folder)["figures"] == json.loads((checkpoint / "metrics.json").read_text())["figures"]
    )


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
