"""The command lines that metrics and pages record, so that whoever reads one can give it again."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def shown(path: Path) -> str:
    """A path as it is typed from the working folder; of one outside of it that was given in full, only the name.

    What is recorded is served with the checkpoint, and where else this machine keeps its files is nobody's concern.
    """
    if path.is_absolute():
        here = Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else Path(path.name)
    return shlex.quote(str(path))


def train_command(
    recipe: Path | str,
    data: Path,
    out: Path,
    seed: int | None,
    *,
    usual: int | None = 0,
    start: Sequence[Path] = (),
    baselines: bool = False,
    device: str = "cpu",
) -> str:
    """The ``fusionrnn train`` that trains the same again.

    Args:
        seed: as it was given; None where it was not.
        usual: the one that is taken without any; None where the recipe is a file, which may come to say another.
    """
    words = [f"fusionrnn train {shown(Path(recipe))} --data {shown(data)} --out {shown(out)}"]
    words += [f"--start {shown(folder)}" for folder in start]
    words += [f"--seed {seed}"] if seed not in (None, usual) else []
    words += ["--baselines"] if baselines else []
    words += [f"--device {device}"] if device != "cpu" else []
    return " ".join(words)


def evaluate_command(checkpoint: Path, data: Path, split: str, target: str | None) -> str:
    """The ``fusionrnn evaluate`` that measures the same again."""
    words = [f"fusionrnn evaluate {shown(checkpoint)} --data {shown(data)} --split {shlex.quote(split)}"]
    words += [f"--target {shlex.quote(target)}"] if target else []
    return " ".join(words)
