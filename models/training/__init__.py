"""Training and evaluation: what ``fusionrnn train`` and ``fusionrnn evaluate`` call."""

from pathlib import Path
from typing import Any

from models.checkpoint import CheckpointError
from models.training.manifest import DataError
from models.training.trainer import DivergedError

TRAINING_ERRORS = (CheckpointError, DataError, DivergedError)
"""What a person at the command line can mend; the message says how."""


def cli_train(recipe: str, data: Path, out: Path, seed: int = 0) -> None:
    """Run the recipe called ``recipe`` on ``data``, or resume it, and write the checkpoint to ``out``.

    Raises:
        DataError: no such recipe, or the data cannot be trained on.
    """
    from models.training.recipes import recipe_called

    recipe_called(recipe).train(data, out, seed)


def cli_evaluate(checkpoint: Path, data: Path, split: str = "val") -> dict[str, Any]:
    """Score a checkpoint folder on a split, write its ``metrics.json`` and return what it holds.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data does not fit the checkpoint's task.
    """
    from models.training.evaluation import evaluate

    return evaluate(checkpoint, data, split)
