"""How well captions say which photo they belong to: what no reader of them can do better than by much.

``python -m models.training.recipes.image_text_embedding.ambiguity FOLDER [SPLIT]`` takes each caption away from its
photo and looks for it among all photos, each described by its captions in the same language: pairs of neighbouring
words or characters and these themselves, weighted by their rarity (tf-idf), compared by the cosine.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.manifest import DataError, read_manifest

RANKS = (1, 5, 10)
_WORD = re.compile(r"[a-z0-9']+|[\u4e00-\u9fff]")


def recall(photos: Sequence[Sequence[str]]) -> dict[int, float]:
    """Percent of the captions of ``photos`` whose photo is among the first k, by k; every photo has two or more."""
    owner = np.repeat(np.arange(len(photos)), [len(captions) for captions in photos])
    vectors = _tf_idf([caption for captions in photos for caption in captions])
    sums = np.zeros((len(photos), vectors.shape[1]), np.float32)
    np.add.at(sums, owner, vectors)
    others = sums / _lengths(sums)
    ranks = []
    for photo, vector in zip(owner, vectors, strict=True):
        left = sums[photo] - vector
        own = vector @ left / _lengths(left[None]).item()
        cosines = others @ vector
        cosines[photo] = own
        ranks.append(int((cosines > own).sum()))
    return {most: 100 * float(np.mean(np.array(ranks) < most)) for most in RANKS}


def _tf_idf(captions: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors [N, terms]."""
    terms: dict[str, int] = {}
    found = [sorted({terms.setdefault(term, len(terms)) for term in _terms(caption)}) for caption in captions]
    vectors = np.zeros((len(captions), len(terms)), np.float32)
    for row, columns in enumerate(found):
        vectors[row, columns] = 1
    vectors *= np.log(len(captions) / vectors.sum(0))
    unit: NDArray[np.float32] = vectors / _lengths(vectors)
    return unit


def _terms(caption: str) -> Iterator[str]:
    words = _WORD.findall(caption.lower())
    yield from words
    yield from (" ".join(pair) for pair in pairwise(words))


def _lengths(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.maximum(lengths, 1e-9)


def _captions(example: dict[str, Any]) -> dict[str, list[str]]:
    captions = example.get("captions")
    if not isinstance(captions, dict):
        raise DataError('a line has no "captions" by language, such as {"en": ["a dog runs", "a brown dog"]}')
    return captions


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: print a line a language."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder with SPLIT.jsonl, whose lines have captions by language")
    parser.add_argument("split", nargs="?", default="val", help="val if missing")
    given = parser.parse_args(arguments)
    try:
        captions = [_captions(example) for example in read_manifest(given.folder, given.split).examples]
    except DataError as error:
        parser.error(str(error))
    for language in sorted({language for each in captions for language in each}):
        photos = [each[language] for each in captions if len(each.get(language, ())) > 1]
        if not photos:
            print(f"{language}: no photo has two captions")
            continue
        every = [caption for each in photos for caption in each]
        found = ", ".join(f"R@{most} {value:.1f}" for most, value in recall(photos).items())
        print(f"{language}: {found}; {len(set(every))} of {len(every)} captions differ")


if __name__ == "__main__":
    main()
