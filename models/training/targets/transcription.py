"""Transcriptions: the words that were said, by CTC; word error rate."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.heads import TranscriptionHead
from models.network import FusionRNN
from models.sequence import pad
from models.training.metrics.figures import Figures
from models.training.metrics.words import word_figures
from models.training.objectives import ctc_loss
from models.training.targets.sentences import read_sentence, spread
from models.training.targets.target import Target


class TranscriptTarget(Target):
    """``target_text``: what was said, in words."""

    field = "target_text"
    score = "wer"

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> str:  # noqa: ARG004
        return read_sentence(fields, name)

    def describe(self, values: Sequence[str]) -> dict[str, Any]:
        splitter = TextTokenizer.build([])
        return {"words a sentence": spread([len(splitter.split(value)) for value in values])}

    def texts(self, values: Sequence[str]) -> Iterable[str]:
        return values

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:
        assert tokenizer is not None
        return {"vocabulary": tokenizer.size, "blank": tokenizer.pad}

    def prepare(
        self,
        network: FusionRNN,
        config: CheckpointConfig,  # noqa: ARG002
        tokenizer: TextTokenizer | None,
        train: Sequence[str],
    ) -> None:
        assert tokenizer is not None
        assert isinstance(network.head, TranscriptionHead)
        self.output, self.tokenizer = network.head, tokenizer
        self.tokens = [torch.tensor(tokenizer.encode(text), dtype=torch.int64) for text in train]
        written = sorted({index for tokens in self.tokens for index in tokens.tolist()})
        network.head.spoken.zero_()
        network.head.spoken[written] = 1
        network.head.spoken[[tokenizer.unknown, tokenizer.end]] = 0

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        steps = self.output.steps(encoded)
        # Words too rare for the vocabulary are never written, so they are not asked for.
        wanted = [self.tokens[row][self.tokens[row] != self.tokenizer.unknown] for row in rows.tolist()]
        targets = pad(wanted)
        return ctc_loss(
            self.output.score(steps.sequence),
            steps.lengths,
            targets.values,
            targets.lengths,
            blank=self.output.config.blank,
        )

    def answers(self, encoded: Encoded) -> list[Any]:
        """The words of the most probable path: the greedy search, quick enough for every epoch."""
        steps = self.output.steps(encoded)
        paths = self.output.score(steps.sequence).argmax(2)
        blank = self.output.config.blank
        merged = [path[:length].unique_consecutive() for path, length in zip(paths, steps.lengths, strict=True)]
        return [self.tokenizer.words(path[path != blank].tolist()) for path in merged]

    def figures(self, answers: Sequence[Any], values: Sequence[str]) -> Figures:
        return word_figures(answers, [self.tokenizer.split(value) for value in values])

    def value_of(self, values: Mapping[str, float]) -> float:
        return -values[self.score]
