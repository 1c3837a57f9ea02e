"""Text to token ids."""

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.features.features import FEATURES, Features, Modality, Sources
from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.media.text import decode_text


class TextFeatures(Features):
    """Ids of the checkpoint's tokenizer, which also says what case and punctuation mean; HTML's markup is not read."""

    type: Literal["tokens"] = "tokens"
    max_tokens: int = Field(256, ge=1, le=16_384, description="Where a longer text is cut off")

    max_numerals: int | None = Field(
        None, ge=1, description="Digits that the network knows the meaning of together; more are noticed"
    )

    written: ClassVar[bool] = True

    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[str]:
        """The posted texts, in Unicode's composed form."""
        return [decode_text(data, limits, markup=True) for data in sources.get(modality, [])[:room]]

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:
        """Texts -> int64 [T], 1 <= T <= ``max_tokens``, one after the other; without any word it is one ``<unk>``.

        Raises:
            ValueError: there is no tokenizer.
        """
        return torch.tensor(self._ids(media, tokenizer)[: self.max_tokens], dtype=torch.int64)

    def blank(self) -> list[str]:
        """A text of as many words as may come."""
        return [" ".join(["word"] * self.max_tokens)]

    def notices(self, media: list[Any], read: Tensor, tokenizer: TextTokenizer | None = None) -> list[str]:
        """``unknown_words``: there are hardly any but those; ``truncated``: something is beyond ``max_tokens``;
        ``several_numerals``: there are more than ``max_numerals`` digits, in any script.

        Unknown emoji beside known words are not counted, nor are pairs of characters beside the characters.
        """
        assert tokenizer is not None
        ids = read.tolist()
        known, unknown = self._counts(ids, tokenizer)
        # Only then is it worth to look at the text again: pairs of characters at most double what is known.
        if 0 < known < 2 * unknown:
            pairs = frozenset(tokenizer.pairs.values())
            ids = [index for index in ids if index not in pairs]
            known, _ = self._counts(ids, tokenizer)
            written = [word for text in media for word in tokenizer.split(text)]
            unknown = sum(
                index == tokenizer.unknown and any(map(str.isalnum, word))
                for index, word in zip(ids, written, strict=False)
            )
        strange = not known or known < unknown
        truncated = len(read) == self.max_tokens < len(self._ids(media, tokenizer))
        numerals = sum(map(str.isnumeric, "".join(media)))
        several = self.max_numerals is not None and numerals > self.max_numerals
        return ["unknown_words"] * strange + ["truncated"] * truncated + ["several_numerals"] * several

    @staticmethod
    def _counts(ids: list[int], tokenizer: TextTokenizer) -> tuple[int, int]:
        """How many words are known, and how many are not."""
        words = [index for index in ids if index not in tokenizer.marks]
        unknown = words.count(tokenizer.unknown)
        return len(words) - unknown, unknown

    @staticmethod
    def _ids(media: list[Any], tokenizer: TextTokenizer | None) -> list[int]:
        if tokenizer is None:
            raise ValueError("text is read with the checkpoint's tokenizer, and there is none")
        return [index for text in media for index in tokenizer.encode(text)] or [tokenizer.unknown]


FEATURES.register("tokens", TextFeatures)(TextFeatures)
