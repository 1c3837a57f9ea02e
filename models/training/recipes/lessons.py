"""Lessons of ``sentiment``: a text with what to answer, and what of it is read in its place at times."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.sequence import Padded
from models.training.recipes.classifier import Inputs
from models.training.recipes.waveforms import chance, choice

PIECES, JOINED = 8, 4
"""Of each English sentence the teacher judges so many pieces, and so many that are joined with one of another."""
ENGLISH = 3
"""How often an English sentence or one of its pieces comes in an epoch, in which a review comes once."""
SHORTEST = 20
"""Characters of a review of which parts are read, too."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learned from one text: its words, what to answer, and, of English ones, judged pieces of it.

    One that is ``whole`` is never read in part.
    """

    ids: Tensor
    goal: Tensor
    pieces: tuple[tuple[Tensor, Tensor], ...] = ()
    whole: bool = False


def piece(text: str) -> str:
    """Some neighbouring words of a text, two at least, at times with one word left out."""
    words = text.split()
    size = min(len(words), 2 + choice(max(len(words) - 1, 1)))
    start = choice(len(words) - size + 1)
    chosen = words[start : start + size]
    if len(chosen) > 3 and chance(0.3):
        del chosen[choice(len(chosen))]
    return " ".join(chosen)


def joined(text: str, other: str) -> str:
    """A piece of each of two texts, as one sentence or two."""
    first, second = piece(text), piece(other)
    link = ", but" if chance(0.2) else ", and" if chance(0.2) else "," if chance(0.5) else "."
    return f"{first} {link} {second}"


def parts(texts: Sequence[str]) -> list[str]:
    """``PIECES`` pieces of each text and ``JOINED`` joined ones, text by text: always the same."""
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for text in texts:
            found += [piece(text) for _ in range(PIECES)]
            found += [joined(text, texts[choice(len(texts))]) for _ in range(JOINED)]
    return found


class Draw:
    """Batches of lessons, padded with a token of their own that counts as a word.

    So all rows are of one length, for which torch's kernels take a seventh of the time that packed ones take.
    """

    def __init__(self, lessons: Sequence[Lesson], padding: int) -> None:
        self.lessons, self.padding = lessons, padding

    def __call__(self, rows: Tensor) -> tuple[Inputs, Tensor]:
        """Token ids and goals; two of three English texts are replaced by a piece, half of the reviews by a part."""
        drawn = [self._drawn(self.lessons[int(row)]) for row in rows]
        ids = pad_sequence([ids for ids, _ in drawn], batch_first=True, padding_value=self.padding)
        lengths = torch.full((len(ids),), ids.shape[1], dtype=torch.int64)
        return {"text": Padded(ids, lengths)}, torch.stack([goal for _, goal in drawn])

    def _drawn(self, lesson: Lesson) -> tuple[Tensor, Tensor]:
        if lesson.pieces:
            return lesson.pieces[choice(len(lesson.pieces))] if chance(0.67) else (lesson.ids, lesson.goal)
        length = len(lesson.ids)
        if length > SHORTEST and not lesson.whole and chance(0.5):
            size = SHORTEST // 2 + choice(length - SHORTEST // 2)
            start = choice(length - size + 1)
            # A part says less surely what the whole says.
            return lesson.ids[start : start + size], 0.8 * lesson.goal + 0.2 / len(lesson.goal)
        return lesson.ids, lesson.goal
