"""Lessons of ``sentiment``: a text with what to answer, and what of it is read in its place at times."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.sequence import Padded
from models.training.recipes.classifier import Inputs
from models.training.recipes.sentiment.everyday import Opinion
from models.training.recipes.sentiment.rated import Rated
from models.training.recipes.sentiment.texts import LABELS, Texts
from models.training.recipes.waveforms import chance, choice

Encode = Callable[[str], Tensor]
"""A text -> its token ids [T]."""

PIECES, JOINED = 8, 4
"""Of each English sentence the teacher judges so many pieces, and so many that are joined with one of another."""
ENGLISH = 3
"""How often an English sentence or one of its pieces comes in an epoch, in which a review comes once."""
SURE = 0.9
"""How much of a goal is the label; the rest is spread over both classes."""
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


def fragments(texts: Sequence[str], count: int) -> list[str]:
    """``count`` pieces of each text: always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return [piece(text) for text in texts for _ in range(count)]


def of_sentences(sentences: Texts, verdicts: Tensor, pieced: Sequence[str], encode: Encode) -> list[Lesson]:
    """English sentences with the mean of label and the teacher's opinion, and their ``parts``.

    ``verdicts`` are of the sentences and then of the parts. All are there ``ENGLISH`` times.
    """
    each, count = PIECES + JOINED, len(sentences.texts)
    lessons = []
    for row, (text, label) in enumerate(zip(sentences.texts, _smooth(sentences.classes), strict=True)):
        places = range(row * each, (row + 1) * each)
        judged = tuple((encode(pieced[place]), verdicts[count + place]) for place in places)
        lessons.append(Lesson(encode(text), 0.5 * (label + verdicts[row]), judged))
    return lessons * ENGLISH


def of_reviews(reviews: Texts, encode: Encode, sure: float = SURE, *, whole: bool = False) -> list[Lesson]:
    """Reviews, of whose classes it is ``sure``; those that are not ``whole`` are read in part, too."""
    labels = _smooth(reviews.classes, sure)
    return [Lesson(encode(text), label, whole=whole) for text, label in zip(reviews.texts, labels, strict=True)]


def of_opinions(opinions: Sequence[Opinion], encode: Encode) -> list[Lesson]:
    """Opinions of everyday things."""
    likely = ((text, SURE * positive + (1 - SURE) / len(LABELS)) for text, positive in opinions)
    return [Lesson(encode(text), torch.tensor([1 - value, value]), whole=True) for text, value in likely]


def of_rated(sentences: Iterable[Rated], encode: Encode) -> list[Lesson]:
    """Rated sentences, with how likely each is to be called positive."""
    likely = ((sentence.text, sentence.positive) for sentence in sentences)
    return [Lesson(encode(text), torch.tensor([1 - value, value]), whole=True) for text, value in likely]


def of_judged(texts: Iterable[str], verdicts: Tensor, encode: Encode) -> list[Lesson]:
    """Texts of which nothing is known but what the teacher makes of them."""
    return [Lesson(encode(text), verdict, whole=True) for text, verdict in zip(texts, verdicts, strict=True)]


def _smooth(classes: Tensor, sure: float = SURE) -> Tensor:
    """Probabilities [N, 2] that are not quite sure of the classes."""
    return sure * F.one_hot(classes, len(LABELS)).float() + (1 - sure) / len(LABELS)


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
