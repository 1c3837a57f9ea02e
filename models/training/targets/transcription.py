"""Transcriptions: the words that were said, by CTC; word error rate."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from models.config import CheckpointConfig
from models.decoding.ctc import best_path
from models.encoded import Encoded
from models.features.text import TextTokenizer, split_words
from models.heads import TranscriptionHead
from models.network import FusionRNN
from models.sequence import pad
from models.training.metrics.figures import Figures
from models.training.metrics.words import word_figures
from models.training.objectives import ctc_loss, steps_needed
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
        return {"words a sentence": spread([len(split_words(value)) for value in values])}

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
        self.tokens = [spelled(tokenizer, text) for text in train]
        written = sorted({index for tokens in self.tokens for index in tokens.tolist()})
        network.head.spoken.zero_()
        network.head.spoken[written] = 1
        network.head.spoken[tokenizer.end] = 0

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        return self._loss(encoded, [self.tokens[row] for row in rows.tolist()])

    def validation_loss(self, encoded: Encoded, values: Sequence[str]) -> Tensor:
        # A word of the texts that are read, but of no training transcript, is never written: it would cost the loss
        # that stands for the impossible, beside which no epoch is better than another.
        wanted = [spelled(self.tokenizer, text) for text in values]
        return self._loss(encoded, [tokens[self.output.spoken[tokens].bool().cpu()] for tokens in wanted])

    def least_steps(self, rows: Tensor) -> Tensor:
        targets = pad([self.tokens[row] for row in rows.tolist()])
        return steps_needed(targets.values, targets.lengths)

    def _loss(self, encoded: Encoded, wanted: Sequence[Tensor]) -> Tensor:
        steps = self.output.steps(encoded)
        targets = pad(wanted).to(steps.lengths.device)
        return ctc_loss(
            self.output.score(steps.sequence),
            steps.lengths,
            targets.values,
            targets.lengths,
            blank=self.output.config.blank,
        )

    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        """The words of the most probable path: the greedy search, quick enough for every epoch."""
        steps = self.output.steps(encoded)
        found = best_path(self.output.score(steps.sequence), steps.lengths, blank=self.output.config.blank)
        return [self.tokenizer.words(transcript.tokens) for transcript in found]

    def figures(self, answers: Sequence[Any], values: Sequence[str]) -> Figures:
        return word_figures(answers, [self.tokenizer.split(value) for value in values])

    def value_of(self, values: Mapping[str, float]) -> float:
        """Words that are right, in percent, less ten for each nat of loss a word.

        CTC begins with a plateau on which nothing is written: all words are wrong, or a few less by chance, and only
        the loss tells that something is learned. Once words are written they count for more, for of a network that is
        ever more sure the loss may rise while they get better. More edits than words are no worse than nothing written.
        """
        return -min(values[self.score], 100) - 10 * values["validation_loss"]


def spelled(tokenizer: TextTokenizer, text: str) -> Tensor:
    """The tokens int64 [L] asked for: words too rare for the vocabulary are never written, so they are not."""
    return torch.tensor([token for token in tokenizer.spell(text) if token != tokenizer.unknown], dtype=torch.int64)
