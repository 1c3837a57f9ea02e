"""Training and evaluation: what ``fusionrnn train`` and ``fusionrnn evaluate`` call."""

import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from models.checkpoint import CheckpointError
from models.device import choose_device
from models.training.manifest import DataError
from models.training.trainer import DivergedError, ResumeError

if TYPE_CHECKING:
    from models.training.evaluation.zoo import Line

TRAINING_ERRORS = (CheckpointError, DataError, DivergedError, ResumeError)
"""What a person at the command line can mend; the message says how."""

EXPERIMENT_ENDING = ".toml"


def cli_train(
    recipe: str,
    data: Path,
    out: Path,
    seed: int | None = None,
    *,
    start: Sequence[Path] = (),
    baselines: bool = False,
    device: str = "cpu",
) -> None:
    """Run the recipe called ``recipe``, or the experiment in that TOML file, on ``data``; or resume it.

    Args:
        start: checkpoint folders that an experiment goes on from.
        device: where an experiment's networks are trained: auto, cpu or cuda.

    Raises:
        CheckpointError: one of them is not usable.
        DataError: no such recipe, file or device, or the data cannot be trained on, or ``out`` cannot be written to.
        ResumeError: what an interrupted run left in ``out`` is damaged.
    """
    if find_spec("matplotlib") is None:
        # Said now rather than by the picture that is drawn when training is over.
        raise DataError(
            "training draws its curves with matplotlib, which is not installed: "
            f"run make install, or {sys.executable} -m pip install matplotlib"
        )
    _check_out(out)
    try:
        _train(recipe, data, out, seed, start, baselines=baselines, device=device)
    except OSError as error:
        raise DataError(
            f"{error.filename or out} cannot be written or read ({error.strerror or error}): "
            "mend that and give the same command again, which goes on from what is there"
        ) from error


def _train(
    recipe: str,
    data: Path,
    out: Path,
    seed: int | None,
    start: Sequence[Path],
    *,
    baselines: bool,
    device: str,
) -> None:
    chosen = _chosen(device)
    if recipe.endswith(EXPERIMENT_ENDING):
        from models.training.run import train_experiment

        train_experiment(Path(recipe), data, out, seed=seed, start=start, baselines=baselines, device=chosen)
        return
    from models.training.recipes import recipe_called

    given = "--baselines" if baselines else "--start" if start else "--device" if chosen != "cpu" else None
    if given is not None:
        raise DataError(
            f"{given} belongs to an experiment, a file that ends in .toml; recipes bring their own, and use the CPU"
        )
    recipe_called(recipe).train(data, out, seed or 0)


def _chosen(device: str) -> str:
    try:
        return choose_device(device)
    except ValueError as error:
        raise DataError(str(error)) from error


def _check_out(out: Path) -> None:
    """Said before the data are read; nothing is left behind, for what was asked for may be refused yet."""
    try:
        standing = next(place for place in (out, *out.parents) if place.exists())
        if not standing.is_dir():
            raise DataError(f"{standing} is a file, where the run needs a folder: give another --out")
        with TemporaryFile(dir=standing):
            pass
    except OSError as error:
        raise DataError(f"{out} cannot be written to ({error.strerror}): give another --out") from error


def cli_evaluate(
    checkpoint: Path,
    data: Path,
    split: str = "val",
    target: str | None = None,
    *,
    save: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Score a checkpoint folder on a split and return what was measured; ``save`` it in ``metrics.json`` as well.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data does not fit the checkpoint's task, there is no such ``device``: auto, cpu or cuda, or the
            folder cannot be written to.
    """
    from models.training.evaluation import evaluate

    if save:
        try:
            # Said before anything is measured.
            with TemporaryFile(dir=checkpoint):
                pass
        except OSError as error:
            raise DataError(f"{checkpoint} cannot be written to ({error.strerror}): leave --save out") from error
    try:
        return evaluate(checkpoint, data, split, target, save=save, device=_chosen(device))
    except OSError as error:
        raise DataError(
            f"{error.filename or checkpoint} cannot be written or read ({error.strerror or error})"
        ) from error


def cli_novelty(checkpoint: Path, data: Sequence[Path], device: str = "cpu") -> dict[str, int]:
    """Let a checkpoint folder's answers tell what is new; see ``models.training.novelty``.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data cannot be learned from or are too few, there is no such ``device``, or the folder cannot be
            written to.
    """
    from models.training.novelty import LEAST, learn_novelty

    try:
        known = learn_novelty(checkpoint, data, _chosen(device))
    except OSError as error:
        raise DataError(f"{error.filename or checkpoint} cannot be written or read ({error.strerror})") from error
    if not known:
        raise DataError(f"val.jsonl has too few media to say what is new: give {LEAST} or more of a modality")
    return known


def cli_evaluate_all(folders: Sequence[Path], data: Path, cache: Path) -> "Iterator[Line]":
    """Measure shipped checkpoints again; see ``models.training.evaluation.zoo``.

    Raises:
        CheckpointError: a folder is not a usable checkpoint.
        DataError: a data set is missing or cannot be used.
    """
    from models.training.evaluation.zoo import measure_all

    return measure_all(folders, data, cache)
