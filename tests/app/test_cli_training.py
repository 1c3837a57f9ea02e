"""What a person who trains sees: results where they were asked for, and errors as one sentence, not a traceback."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_cli import run
from tests.models.training.data import TEXT, make_data, make_experiment
from tests.repository.project import ROOT
from tests.support import tiny_captioner

ZOO = ROOT / "models" / "zoo"


def test_train_then_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.training import run as training

    monkeypatch.setattr(training, "draw_curves", lambda *arguments: None)
    monkeypatch.setattr(training, "draw_confusion", lambda *arguments: None)
    data = make_data(tmp_path / "data", train=6, val=3)
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, training="epochs = 1")
    code, shown, _ = run("train", toml, "--data", data, "--out", tmp_path / "run", "--seed", 5)
    assert code == 0
    assert "train: 6 examples" in shown
    checkpoint = tmp_path / "run" / "checkpoint"
    assert f"fusionrnn serve --model-dir {checkpoint}" in shown
    metrics = checkpoint / "metrics.json"
    trained = metrics.read_text()
    assert json.loads(trained)["seed"] == 5
    code, shown, _ = run("evaluate", checkpoint, "--data", data)
    assert (code, json.loads(shown)["n"]) == (0, 3)
    assert metrics.read_text() == trained
    for command in (["evaluate", tmp_path / "run", "--data", data], ["models", "verify", tmp_path / "run"]):
        code, _, complaint = run(*command)
        assert code == 1
        assert complaint.endswith(f"run: config.json is missing; give {checkpoint}, which has one\n")
    code, again, _ = run("evaluate", checkpoint, "--data", data, "--save")
    assert (code, again) == (0, shown)
    assert json.loads(metrics.read_text()) == json.loads(trained) | json.loads(shown)


def test_a_checkpoint_that_cannot_be_written_to_is_refused_before_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models import training

    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "checkpoint").mkdir()
    monkeypatch.setattr(training, "TemporaryFile", refused)
    # The folder is empty, which would be said next.
    code, _, complaint = run("evaluate", tmp_path / "checkpoint", "--data", tmp_path, "--save")
    assert code == 1
    assert complaint.endswith("checkpoint cannot be written to (Permission denied): leave --save out\n")


def test_figures_that_cannot_be_saved_leave_those_that_stand_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training import evaluation

    folder = tiny_captioner(tmp_path / "captioner")
    (folder / "metrics.json").write_text('{"n": 7}')
    (folder / "metrics.json.tmp").mkdir()
    monkeypatch.setattr(evaluation, "usable_examples", lambda *_, **__: None)
    monkeypatch.setattr(evaluation, "measure", lambda *_: {"figures": {}})
    code, _, complaint = run("evaluate", folder, "--data", tmp_path, "--save")
    assert code == 1
    assert re.search(r"metrics\.json\.tmp cannot be written or read \(Is a directory\)$", complaint.strip())
    assert (folder / "metrics.json").read_text() == '{"n": 7}'


def test_saving_belongs_to_one_checkpoint(tmp_path: Path) -> None:
    code, _, complaint = run("evaluate", "--all", "--save", "--data", tmp_path)
    assert (code, "--all only prints" in complaint) == (1, True)


@pytest.mark.parametrize("folder", sorted(ZOO.iterdir()), ids=lambda it: it.name)
def test_the_command_of_a_shipped_checkpoint_can_be_given_again(folder: Path) -> None:
    command = json.loads((folder / "metrics.json").read_text())["command"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for given in [command, *re.findall(r"`(fusionrnn (?:train|evaluate) [^`]+)`", card)]:
        program, name, subject, *rest = shlex.split(given)
        assert program == "fusionrnn"
        assert set(rest[::2]) >= ({"--data", "--out"} if name == "train" else {"--data"}), given
        assert name == "train" or (ROOT / subject / "config.json").is_file(), given


@pytest.mark.parametrize(
    ("recipe", "arguments", "said"),
    [
        ("poet", (), "no recipe is called 'poet': there are "),
        ("captioner", ("--baselines",), "--baselines belongs to an experiment"),
        ("none.toml", (), "none.toml cannot be read"),
        ("my.toml", (), "train.jsonl does not exist"),
    ],
)
def test_training_says_what_is_wrong(tmp_path: Path, recipe: str, arguments: tuple[str, ...], said: str) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT)
    (tmp_path / "data").mkdir()
    asked = toml if recipe == toml.name else recipe
    code, _, complaint = run("train", asked, "--data", tmp_path / "data", "--out", tmp_path / "run", *arguments)
    assert code == 1
    assert said in complaint


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT)
    for recipe, out in ((toml, toml), ("captioner", toml), (toml, toml / "run")):
        code, _, complaint = run("train", recipe, "--data", tmp_path, "--out", out)
        assert (code, "my.toml is a file, where the run needs a folder: give another --out" in complaint) == (1, True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="nobody, not even root, writes into /proc")
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT)
    for recipe in (toml, "captioner"):
        code, _, complaint = run("train", recipe, "--data", tmp_path, "--out", "/proc/run")
        assert code == 1
        assert re.search(r"/proc/run cannot be written to \(.+\): give another --out", complaint)


@pytest.mark.parametrize("most", [0, 1000, 40_000])
def test_a_disk_that_takes_no_more_is_named_and_the_same_command_goes_on(tmp_path: Path, most: int) -> None:
    data = make_data(tmp_path / "data", train=6, val=3)
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT, training="epochs = 1")
    command = ["train", str(toml), "--data", str(data), "--out", str(tmp_path / "run")]
    limited = (
        "import resource, sys; from app.cli import app; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most})); app(sys.argv[1:])"
    )
    ended = subprocess.run([sys.executable, "-c", limited, *command], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "cannot be written or read" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr
    code, _, complaint = run(*command)
    assert code == 0, complaint


def test_a_seed_that_numpy_does_not_take_is_refused(tmp_path: Path) -> None:
    toml = make_experiment(tmp_path / "my.toml", "classification", TEXT)
    code, *_ = run("train", toml, "--data", make_data(tmp_path / "data"), "--out", tmp_path / "run", "--seed", 2**31)
    assert code == 2


def test_manifest(tmp_path: Path) -> None:
    code, _, complaint = run("manifest", tmp_path)
    assert (code, "one a class" in complaint) == (1, True)
    for label in ("good", "bad"):
        (tmp_path / label).mkdir()
        for number in range(5):
            (tmp_path / label / f"{number}.txt").write_text(f"{label} {number}")
    (tmp_path / "good" / "empty.txt").touch()
    code, shown, complaint = run("manifest", tmp_path)
    assert "Left out, as empty: good/empty.txt" in complaint
    assert (code, "10 examples, 8 in train.jsonl, 2 in val.jsonl" in shown) == (0, True)


def test_manifest_names_a_file_that_cannot_be_read_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for label in ("good", "bad"):
        (tmp_path / label).mkdir()
        for number in range(2):
            (tmp_path / label / f"{number}.txt").write_text("a text")
    opened = Path.open
    for name in ("0.txt", "train.jsonl.tmp"):  # which becomes train.jsonl once it is whole

        def forbidden(self: Path, *arguments: Any, name: str = name, **named: Any) -> Any:
            if self.name == name:
                raise PermissionError(13, "Permission denied", str(self))
            return opened(self, *arguments, **named)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", forbidden)
            code, _, complaint = run("manifest", tmp_path)
        assert code == 1
        assert re.search(rf"{name} cannot be read or written \(Permission denied\): mend that", complaint)


def test_manifest_of_a_table(tmp_path: Path) -> None:
    rows = [f"text {n}\t{n % 2}\t{n or 'NA'}\n" for n in range(10)]
    (tmp_path / "texts.tsv").write_text("review\tstars\tage\n" + "".join(rows))
    table = ("--table", tmp_path / "texts.tsv")
    code, shown, complaint = run("manifest", tmp_path, *table, "--column", "text=review", "--column", "label=stars")
    assert "texts.tsv, line 2, column 'age': 'NA' is not a number" in complaint
    assert (code, "10 examples, 8 in train.jsonl, 2 in val.jsonl" in shown) == (0, True)
    assert '"label": 1' in (tmp_path / "train.jsonl").read_text()
    code, _, complaint = run("manifest", tmp_path, "--column", "text=review")
    assert (code, complaint) == (1, "--column names a column of a --table.\n")
    code, _, complaint = run("manifest", tmp_path, *table, "--column", "review")
    assert (code, complaint) == (1, "'review' is not name=value.\n")
