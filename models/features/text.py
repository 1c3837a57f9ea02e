"""Text to token ids and back: one tokenizer for English words and Chinese characters, stored as ``tokenizer.json``."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"
# Scripts written without spaces: each character is a token of its own.
_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}"
# The apostrophe of a contraction whose second part begins behind it; that of n't is part of the word.
_CONTRACTED = r"(?<=\p{L})'(?=(?:s|m|re|ve|ll|d)(?![\p{L}\p{N}]))"
_NEGATED = r"n't(?![\p{L}\p{N}])"
# What is neither letter, accent, number nor apostrophe.
_MARKS = r"[^\p{L}\p{M}\p{N}']"
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
# What varies an emoji or makes a key of a number: its presentation, a keycap, skin tones, the letters of a flag, and
# further emoji that are joined to it. Between letters of some scripts a joiner is spelling.
_VARIATIONS = re.compile(
    f"[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]|(?<=[{_EMOJI}\ufe0f\U000e007f])\u200d[{_EMOJI}]"
)
# Behind their letters; what Japanese and Indic letters carry is no accent, and not among them.
_ACCENTS = re.compile("[\u0300-\u036f]+")
# No word has a letter three times in a row: who writes it so draws it out ("soooo good").
_DRAWN_OUT = re.compile(r"([^\W\d_])\1{2,}")

_STAGES = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}


class TextTokenizer:
    """Word-level vocabulary over lower-cased text; a character of a script without spaces is a word.

    Where the vocabulary has two such characters as one word, it is read behind the second of them: most Chinese words
    are pairs, and to tell words from chance neighbours takes no segmenter then.

    An emoji is one word, whatever its skin and however it is shown: of several that are joined, the first.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.size: int = tokenizer.get_vocab_size()
        self.pad = self._special(PAD)
        self.unknown = self._special(UNKNOWN)
        self.end = self._special(END)

    @classmethod
    def build(cls, words: Sequence[str], languages: Iterable[str] = (), marks: bool = False) -> "TextTokenizer":
        """A tokenizer for ``words`` (as ``split`` returns them), with a start token ``<xx>`` for each language.

        With ``marks``, each punctuation mark, symbol and emoji is a word as well, and contractions are two words, as in
        the Penn Treebank (``is n't``, ``it s``); else marks only separate words, and contractions are one.
        """
        specials = [PAD, UNKNOWN, END, *(start_token(language) for language in languages)]
        vocabulary = {word: index for index, word in enumerate([*specials, *dict.fromkeys(words)])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Lowercase(),
                normalizers.Replace(Regex("[\u2018\u2019`]"), "'"),
                *(
                    [normalizers.Replace(Regex(_NEGATED), " n't"), normalizers.Replace(Regex(_CONTRACTED), " ")]
                    if marks
                    else [normalizers.Replace(Regex(f"{_MARKS}+"), " ")]
                ),
                normalizers.Replace(Regex(r"(?<![\p{L}\p{N}])'+|'+(?![\p{L}\p{N}])"), " "),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Split(Regex(f"[{_SPACELESS}]" + (f"|{_MARKS}" if marks else "")), "isolated"),
            ]
        )
        return cls(tokenizer)

    @classmethod
    def load(cls, path: Path) -> "TextTokenizer":
        """Read ``tokenizer.json``.

        Raises:
            ValueError: the file is not a tokenizer of this kind.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises a bare Exception for a malformed file
            raise ValueError(f"{path.name} is not a readable tokenizer: {error}") from error
        if (fault := _fault(json.loads(tokenizer.to_str()))) is not None:
            raise ValueError(f"{path.name} is not a tokenizer of this kind: {fault}")
        return cls(tokenizer)

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``."""
        self._tokenizer.save(str(path))

    def split(self, text: str) -> list[str]:
        """The normalized words of a text, whether or not they are in the vocabulary."""
        normalized = self._tokenizer.normalizer.normalize_str(_VARIATIONS.sub("", text))
        return [word for word, _ in self._tokenizer.pre_tokenizer.pre_tokenize_str(normalized)]

    def spell(self, text: str) -> list[int]:
        """Token ids of a text that is to be written: each of its words once, without start or end token."""
        ids: list[int] = self._tokenizer.encode(_VARIATIONS.sub("", text), add_special_tokens=False).ids
        return ids

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that is read: as ``spell``, and behind two characters that are a word also the word.

        A word that is unknown as it is written is read as the known one that it is without its accents ("naïve"), or
        with a letter that is drawn out ("goood", "loooove") written twice or once.
        """
        ids = self.spell(text)
        if self.unknown in ids:
            read = zip(ids, self.split(text), strict=True)
            ids = [self._respelled(word) if index == self.unknown else index for index, word in read]
        if not self.pairs:
            return ids
        found = ids[:1]
        for neighbours in pairwise(ids):
            found.append(neighbours[1])
            if neighbours in self.pairs:
                found.append(self.pairs[neighbours])
        return found

    def extended(self, words: Sequence[str]) -> "TextTokenizer":
        """The same tokenizer with further words behind those it has, which keep their ids."""
        described = json.loads(self._tokenizer.to_str())
        vocabulary: dict[str, int] = described["model"]["vocab"]
        for word in words:
            vocabulary.setdefault(word, len(vocabulary))
        return TextTokenizer(Tokenizer.from_str(json.dumps(described)))

    def words(self, ids: Iterable[int]) -> list[str]:
        """The words behind token ids."""
        return [self._tokenizer.id_to_token(index) or UNKNOWN for index in ids]

    @cached_property
    def pairs(self) -> Mapping[tuple[int, int], int]:
        """Ids of the words of two characters, by those of the characters."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return {
            (vocabulary[word[0]], vocabulary[word[1]]): index
            for word, index in vocabulary.items()
            if len(word) == 2 and all(is_spaceless(sign) and sign in vocabulary for sign in word)
        }

    @cached_property
    def marks(self) -> frozenset[int]:
        """Ids of the tokens that say nothing by themselves: neither letter, number nor emoji."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return frozenset(index for token, index in vocabulary.items() if not any(map(_speaks, token)))

    def start(self, language: str) -> int:
        """Id of the token that begins a text in ``language``."""
        return self._special(start_token(language))

    def _respelled(self, word: str) -> int:
        """Id of the known word that an unknown one is in another spelling; ``unknown`` where there is none."""
        plain = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
        spellings = (plain, *(_DRAWN_OUT.sub(kept, plain) for kept in (r"\1\1", r"\1")))
        found = (self._tokenizer.token_to_id(spelling) for spelling in spellings)
        return next((index for index in found if index is not None), self.unknown)

    def _special(self, token: str) -> int:
        index = self._tokenizer.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokenizer lacks the token {token}")
        return int(index)


def split_words(text: str, *, marks: bool = False) -> list[str]:
    """The normalized words of a text, as a tokenizer of any vocabulary splits it."""
    return _splitter(marks).split(text)


@cache
def _splitter(marks: bool) -> TextTokenizer:
    return TextTokenizer.build([], marks=marks)


def _fault(described: dict[str, Any]) -> str | None:
    """What a tokenizer from elsewhere has that this class does not build, and could not answer for."""
    model = described["model"]
    if model["type"] != "WordLevel":
        return f"its model is {model['type']}, not WordLevel"
    if sorted(model["vocab"].values()) != list(range(len(model["vocab"]))):
        return "the ids of its vocabulary are not the numbers from 0 on"
    if model["unk_token"] != UNKNOWN:
        return f"its unknown words are '{model['unk_token']}', not {UNKNOWN}"
    for name, parts in _STAGES.items():
        stage = described[name] or {"type": None}
        steps = stage.get(parts, [stage])
        for step in steps:
            if step not in _known_steps() or steps.count(step) > 1:
                return f"its {name} has a step that is not read, or has it twice: {json.dumps(step)[:200]}"
    for name in ("padding", "truncation", "post_processor", "added_tokens"):
        if described[name]:
            return f"it has {name}"
    return None


@cache
def _known_steps() -> list[dict[str, Any]]:
    """Those of ``build``, and those that take a text letter by letter.

    Others could take hours over a text that is made for them, or write one as long as memory.
    """
    letters = Tokenizer(models.WordLevel({UNKNOWN: 0}, unk_token=UNKNOWN))
    letters.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"[^\p{L}\p{M}\p{N}]+"), " "), normalizers.Strip()]
    )
    letters.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("."), "isolated")])
    known = [letters, *(_splitter(marks)._tokenizer for marks in (False, True))]  # noqa: SLF001
    described = [json.loads(tokenizer.to_str()) for tokenizer in known]
    return [step for each in described for name, parts in _STAGES.items() for step in each[name][parts]]


def start_token(language: str) -> str:
    """The token that begins a text in ``language``, for example ``<en>``."""
    return f"<{language}>"


def join(words: Sequence[str]) -> str:
    """Words as one would write them: spaces between words, none beside a character of a script without spaces."""
    text = ""
    for word in words:
        spaced = text and not (is_spaceless(text[-1]) or is_spaceless(word[0]))
        text += f" {word}" if spaced else word
    return text


def frequent(counts: Mapping[str, int] | Counter[str], minimum: int) -> list[str]:
    """Words seen at least ``minimum`` times, most frequent first, ties in code point order."""
    return sorted((word for word, count in counts.items() if count >= minimum), key=lambda w: (-counts[w], w))


def _speaks(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) == "So"


def is_spaceless(word: str) -> bool:
    """Whether the first character of a word is of a script that is written without spaces."""
    return unicodedata.name(word[0], "").startswith(("CJK", "HIRAGANA", "KATAKANA"))
