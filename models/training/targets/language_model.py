"""Language models: each text's own next words; perplexity."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features import TextFeatures
from models.features.text import TextTokenizer, split_words
from models.heads import LanguageModelHead
from models.media.limits import MediaLimits
from models.network import FusionRNN
from models.sequence import pad
from models.training.experiment import Experiment, ExperimentError
from models.training.metrics.figures import Figures
from models.training.objectives import next_token_cross_entropy
from models.training.targets.sentences import read_sentence, spread
from models.training.targets.target import Target


class NextWordTarget(Target):
    """``text``: what is read is also what is to be foretold."""

    field = "text"
    score = "perplexity"

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        if experiment.target:
            raise ExperimentError(
                "the task 'generation' has no target: what a text goes on with is learned from itself"
            )

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> str:  # noqa: ARG004
        # As the network reads it: one tag more or less, and every target would stand behind another word.
        (text,) = TextFeatures().decode("text", {"text": [read_sentence(fields, name)]}, MediaLimits(), 1)
        return text

    def describe(self, values: Sequence[str]) -> dict[str, Any]:
        return {"words a text": spread([len(split_words(value)) for value in values])}

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:
        assert tokenizer is not None
        return {"vocabulary": tokenizer.size}

    def prepare(
        self,
        network: FusionRNN,
        config: CheckpointConfig,  # noqa: ARG002
        tokenizer: TextTokenizer | None,
        train: Sequence[str],
    ) -> None:
        assert tokenizer is not None
        assert isinstance(network.head, LanguageModelHead)
        self.output, self.tokenizer = network.head, tokenizer
        network.head.spoken[[tokenizer.pad, tokenizer.unknown]] = 0
        self.train = [self._tokens(text) for text in train]

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        lengths = encoded.outputs["text"].lengths
        read = list(zip([self.train[row] for row in rows.tolist()], lengths.tolist(), strict=True))
        # A text that is read in part goes on there: only where it ends is the end to be foretold.
        ends = [self.tokenizer.end if length >= len(tokens) else int(tokens[length]) for tokens, length in read]
        cut = pad([tokens[:length] for tokens, length in read]).values.to(lengths.device)
        smoothing = self.experiment.training.label_smoothing
        return next_token_cross_entropy(self.output(encoded), cut, lengths, end=torch.tensor(ends), smoothing=smoothing)

    def answers(self, encoded: Encoded, values: Sequence[str]) -> list[Any]:
        """The log-probabilities of all that was asked for in a row, added up, and their number."""
        lengths = encoded.outputs["text"].lengths.tolist()
        scores = self.output(encoded).log_softmax(2).cpu()
        spoken = self.output.spoken.bool().cpu()
        answers = []
        for row, text, length in zip(scores, values, lengths, strict=True):
            wanted = self._following(text)[:length]
            asked = spoken[wanted]
            answers.append((float(row[torch.arange(len(wanted)), wanted][asked].sum()), int(asked.sum())))
        return answers

    def figures(self, answers: Sequence[Any], values: Sequence[str]) -> Figures:
        """``perplexity`` over the words, ends of text included, that are in the vocabulary."""
        sums, counts = np.array(answers, np.float64).reshape(-1, 2).T

        def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            return np.array([np.exp(-sums[rows].sum() / max(counts[rows].sum(), 1))])

        return Figures(("perplexity",), len(values), statistic)

    def value_of(self, values: Mapping[str, float]) -> float:
        return -values[self.score]

    def _tokens(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer.spell(text) or [self.tokenizer.unknown], dtype=torch.int64)

    def _following(self, text: str) -> Tensor:
        """What follows each token of a text: the next one, at last the end."""
        return torch.cat([self._tokens(text)[1:], torch.tensor([self.tokenizer.end])])
