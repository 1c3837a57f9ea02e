"""Recipes by name, one module each: the command that makes a shipped checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.training.manifest import DataError


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to train a checkpoint: ``train(data, out, seed)``."""

    name: str
    train: Callable[[Path, Path, int], None]


def recipe_called(name: str) -> Recipe:
    """The recipe with this name.

    Raises:
        DataError: there is none; the message lists those there are.
    """
    from models.training.recipes import captioner

    recipes = {recipe.name: recipe for recipe in (Recipe("captioner", captioner.train),)}
    if name not in recipes:
        raise DataError(f"no recipe is called '{name}': there are {', '.join(sorted(recipes))}")
    return recipes[name]
