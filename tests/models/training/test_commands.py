"""A recorded command can be given again, and names no folder of the machine where it ran."""

from pathlib import Path

import pytest

from models.training.commands import evaluate_command, shown, train_command


def test_paths_are_those_that_are_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(Path("runs/my/checkpoint")) == "runs/my/checkpoint"
    assert shown(tmp_path / "runs" / "my") == "runs/my"
    assert shown(Path("/elsewhere/private/photos")) == "photos"
    assert shown(Path("my photos")) == "'my photos'"


def test_training_says_where_to_and_which_seed() -> None:
    command = train_command("digits", Path("data"), Path("runs/digits"), 0)
    assert command == "fusionrnn train digits --data data --out runs/digits"
    command = train_command(Path("my.toml"), Path("my"), Path("runs/my"), 5, baselines=True)
    assert command == "fusionrnn train my.toml --data my --out runs/my --seed 5 --baselines"


def test_a_seed_that_was_given_in_place_of_a_files_own_is_said_whatever_it_is() -> None:
    command = train_command(Path("my.toml"), Path("my"), Path("runs/my"), 0, usual=None)
    assert command == "fusionrnn train my.toml --data my --out runs/my --seed 0"
    command = train_command(Path("my.toml"), Path("my"), Path("runs/my"), None, usual=None)
    assert command == "fusionrnn train my.toml --data my --out runs/my"


def test_evaluating_says_which_folder() -> None:
    command = evaluate_command(Path("models/zoo/av-speech"), Path("grid_s1"), "val", "text")
    assert command == "fusionrnn evaluate models/zoo/av-speech --data grid_s1 --split val --target text"
    assert evaluate_command(Path("here"), Path("there"), "test", None).endswith(" --data there --split test")
