"""English sentences of people who bought something, ate out or saw a film, from their reviews.

Kotzias et al. 2015, "From Group to Individual Labels using Deep Features" (CC BY 4.0): a thousand sentences of each of
Amazon, Yelp and IMDb, half of them clearly positive and half clearly negative. The files are in the npm package
``sentiment`` 5.0.2, in ``test/fixtures``.
"""

import json
from pathlib import Path

import torch

from models.training.manifest import DataError
from models.training.recipes.sentiment.texts import LABELS, Texts

FILES = ("amazon.json", "yelp.json", "imdb.json")
_HELD_BACK = 5
"""Of so many sentences of a file one is held back."""


def buyers(folder: Path) -> tuple[Texts, Texts]:
    """The sentences to learn from, and those that are held back.

    Raises:
        DataError: a file is missing, or is not a list of sentences with their classes.
    """
    learned: dict[str, int] = {}
    held: dict[str, int] = {}
    for name in FILES:
        for place, (text, label) in enumerate(_read(folder / name)):
            (held if place % _HELD_BACK == 0 else learned).setdefault(text, label)
    # A few stand there twice.
    return _texts({text: label for text, label in learned.items() if text not in held}), _texts(held)


def _read(path: Path) -> list[tuple[str, int]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        # The last row of each is empty.
        found = [(str(row["text"]).strip(), int(row["class"])) for row in rows if row["text"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} cannot be read: it is in the npm package sentiment 5.0.2") from error
    if not found or {label for _, label in found} != set(range(len(LABELS))):
        raise DataError(f"{path} needs sentences of both classes")
    return found


def _texts(rows: dict[str, int]) -> Texts:
    return Texts(list(rows), torch.tensor(list(rows.values())))
