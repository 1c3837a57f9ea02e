"""What is shipped is what the recipes make."""

from collections.abc import Callable

import pytest

from app.settings import ZOO
from models.checkpoint import Checkpoint, load_checkpoint
from models.config import CheckpointConfig
from models.features.text import TextTokenizer
from models.training.recipes.captioner import recipe as captioner
from models.training.recipes.digits import recipe as digits
from models.training.recipes.image_text_embedding import recipe as embedding
from models.training.recipes.sentiment import recipe as sentiment
from models.training.recipes.sound_events import recipe as sound_events
from models.training.recipes.voice_commands import recipe as voice_commands


def heat(checkpoint: Checkpoint) -> float:
    value = checkpoint.config.defaults["temperature"]
    assert isinstance(value, float)
    return value


def words(checkpoint: Checkpoint) -> TextTokenizer:
    assert checkpoint.tokenizer is not None
    return checkpoint.tokenizer


DESCRIBED: dict[str, Callable[[Checkpoint], CheckpointConfig]] = {
    "captioner": lambda shipped: captioner.describe(words(shipped)),
    "digits": lambda shipped: digits.describe(words(shipped), heat(shipped)),
    "image-text-embedding": lambda shipped: embedding.describe(words(shipped)),
    "sentiment": lambda shipped: sentiment.describe(words(shipped).size, heat(shipped)),
    "sound-events": lambda shipped: sound_events.describe(list(shipped.config.labels or []), heat(shipped)),
    "voice-commands": lambda shipped: voice_commands.describe(heat(shipped)),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_shipped_config_is_what_the_recipe_describes(name: str) -> None:
    shipped = load_checkpoint(ZOO / name)
    assert shipped.config == DESCRIBED[name](shipped)
