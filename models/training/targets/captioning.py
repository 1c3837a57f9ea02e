"""Captions: several references an example, in one or more languages; cross-entropy, CIDEr-D and BLEU."""

import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer, frequent, split_words
from models.heads import CaptioningHead
from models.network import FusionRNN
from models.tasks.captioning import LONGEST, CaptioningTask
from models.training.captions import caption_cross_entropy, teach
from models.training.metrics.captions import sentence_figures
from models.training.metrics.figures import Figures
from models.training.report import Faults
from models.training.targets.sentences import spread
from models.training.targets.target import Target

_USUAL = 20
"""Most tokens of a served caption, at least."""

Captions = dict[str, list[str]]


class CaptionTarget(Target):
    """``captions``: a table of lists by language, ``{"en": ["a dog runs"]}``.

    A sentence or a list alone is Chinese where most of its letters are, and else English.
    """

    field = "captions"
    score = "cider_d"

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> Captions:  # noqa: ARG004
        instead = fields.get("target_text") if name == CaptionTarget.field else None
        value = fields.get(name, instead)
        table = value if isinstance(value, dict) else {"zh" if _is_chinese(value) else "en": value}
        captions = {
            str(language): [texts] if isinstance(texts, str) else texts for language, texts in sorted(table.items())
        }
        for language, texts in captions.items():
            if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
                raise ValueError(f"'{name}' needs at least one caption in '{language}', not {texts!r}")
        if not captions:
            raise ValueError(f"'{name}' has no captions")
        return captions

    def fit(self, train: Sequence[Captions], val: Sequence[Captions], faults: Faults) -> None:
        self.spoken = tuple(sorted({language for captions in train for language in captions}))
        for language in sorted({language for captions in val for language in captions} - set(self.spoken)):
            faults.add("labels unseen in training", "val.jsonl", f"captions in the language '{language}'")
        for name, values in (("train", train), ("val", val)):
            for language in self.spoken:
                if lacking := sum(language not in captions for captions in values):
                    faults.add("captions that lack a language", f"{name}.jsonl", f"'{language}' in {lacking} examples")
                if cut := sum(length > LONGEST for length in _lengths(values, language)):
                    faults.add("captions cut", f"{name}.jsonl", f"{cut} in '{language}' have more than {LONGEST} words")
        longest = max((length for language in self.spoken for length in _lengths(train, language)), default=0)
        # A fifth more than the longest that is learned, in tens: what is served ends by itself.
        self.most = min(max(-(-longest * 6 // 50) * 10, _USUAL), LONGEST)

    def describe(self, values: Sequence[Captions]) -> dict[str, Any]:
        return {f"words a caption, {language}": spread(_lengths(values, language)) for language in self.spoken}

    def texts(self, values: Sequence[Captions]) -> Iterable[str]:
        return (text for captions in values for texts in captions.values() for text in texts)

    def languages(self) -> tuple[str, ...]:
        return self.spoken

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:
        assert tokenizer is not None
        return {"languages": self.spoken, "vocabulary": tokenizer.size}

    def defaults(self) -> dict[str, Any]:
        return {"max_length": self.most}

    def prepare(
        self,
        network: FusionRNN,
        config: CheckpointConfig,
        tokenizer: TextTokenizer | None,
        train: Sequence[Captions],
    ) -> None:
        assert tokenizer is not None
        assert isinstance(network.head, CaptioningHead)
        self.output, self.tokenizer = network.head, tokenizer
        self.task = CaptioningTask(Checkpoint(config, network, tokenizer, None, None, ""))
        self.tokens = [self._tokens(train, language).to(network.device) for language in self.spoken]
        network.head.spoken.zero_()
        for row, language in enumerate(self.spoken):
            texts = (text for captions in train for text in captions[language])
            counts = Counter(word for text in texts for word in tokenizer.split(text))
            words = frequent(counts, self.experiment.training.minimum_count)
            network.head.spoken[row, [tokenizer.end, *(i for w in words for i in tokenizer.spell(w))]] = 1
            network.head.spoken[row, tokenizer.unknown] = 0

    def _tokens(self, train: Sequence[Captions], language: str) -> Tensor:
        """Captions [N, K, T], ended unless they are cut, and padded, each example's from long to short."""
        encoded = [
            sorted((self._ended(text) for text in captions[language]), key=len, reverse=True) for captions in train
        ]
        most = max(len(captions) for captions in encoded)
        longest = max(len(caption) for captions in encoded for caption in captions)
        tokens = torch.full((len(train), most, longest), self.tokenizer.pad)
        for row, captions in enumerate(encoded):
            for column, caption in enumerate(captions):
                tokens[row, column, : len(caption)] = torch.tensor(caption)
        return tokens

    def _ended(self, text: str) -> list[int]:
        tokens = self.tokenizer.spell(text)
        return [*tokens, self.tokenizer.end] if len(tokens) <= LONGEST else tokens[:LONGEST]

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        return self._loss(encoded, [tokens[rows] for tokens in self.tokens], self.experiment.training.label_smoothing)

    def validation_loss(self, encoded: Encoded, values: Sequence[Captions]) -> Tensor | None:
        if any(language not in captions for captions in values for language in self.spoken):
            return None
        return self._loss(encoded, [self._tokens(values, language) for language in self.spoken], 0.0)

    def _loss(self, encoded: Encoded, captions: Sequence[Tensor], smoothing: float) -> Tensor:
        losses = []
        for language, (name, tokens) in enumerate(zip(self.spoken, captions, strict=True)):
            start = self.tokenizer.start(name)
            here = tokens.to(encoded.fusion.fused.device)
            taught = teach(self.output, encoded, language, start, here, pad=self.tokenizer.pad)
            losses.append(caption_cross_entropy(taught, smoothing=smoothing))
        return torch.stack(losses).mean()

    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        written = [
            self.task.best(encoded, self.task.options.model_validate({"language": language, "max_length": self.most}))
            for language in self.spoken
        ]
        return list(zip(*written, strict=True))

    def figures(self, answers: Sequence[Any], values: Sequence[Captions]) -> Figures:
        split = self.tokenizer.split
        pairs = [
            (split(text), [split(reference) for reference in captions[language]])
            for texts, captions in zip(answers, values, strict=True)
            for language, text in zip(self.spoken, texts, strict=True)
        ]
        return sentence_figures([written for written, _ in pairs], [references for _, references in pairs])

    def value_of(self, values: Mapping[str, float]) -> float:
        # CIDEr-D stands at 0 until the first sentences resemble a reference, and ties where the examples are few.
        return values[self.score] - 1e-3 * values.get("validation_loss", 0.0)


def _lengths(values: Sequence[Captions], language: str) -> list[int]:
    """Words of all captions in a language; of Chinese, characters."""
    return [len(split_words(text)) for captions in values for text in captions.get(language, ())]


def _is_chinese(value: object) -> bool:
    """Whether most letters of a caption, or of a list of captions, are Chinese characters."""
    texts = value if isinstance(value, list) else [value]
    letters = [letter for text in texts if isinstance(text, str) for letter in text if letter.isalpha()]
    return sum(unicodedata.name(letter, "").startswith("CJK") for letter in letters) > len(letters) / 2
