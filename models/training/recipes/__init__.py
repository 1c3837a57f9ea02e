"""Recipes by name, one module each: the command that makes a shipped checkpoint."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
    from models.training.recipes.av_speech import live
    from models.training.recipes.av_speech import recipe as av_speech
    from models.training.recipes.captioner import recipe as captioner
    from models.training.recipes.digits import recipe as digits
    from models.training.recipes.image_text_embedding import recipe as image_text_embedding
    from models.training.recipes.sentiment import recipe as sentiment
    from models.training.recipes.sound_events import recipe as sound_events
    from models.training.recipes.voice_commands import recipe as voice_commands

    available = [
        Recipe("av-speech", av_speech.train),
        Recipe(live.NAME, live.train),
        Recipe("captioner", captioner.train),
        Recipe(image_text_embedding.NAME, image_text_embedding.train),
        Recipe("digits", digits.train),
        Recipe("sentiment", sentiment.train),
        Recipe("sound-events", sound_events.train),
        Recipe("voice-commands", voice_commands.train),
    ]
    available += [Recipe(f"av-speech-{name}", partial(av_speech.train_branch, name)) for name in av_speech.BRANCHES]
    available += [Recipe(f"captioner-{name}", partial(captioner.train, baseline=name)) for name in captioner.BASELINES]
    recipes = {recipe.name: recipe for recipe in available}
    if name not in recipes:
        raise DataError(f"no recipe is called '{name}': there are {', '.join(sorted(recipes))}")
    return recipes[name]
