"""Embeddings: the modalities of an example belong together, those of different examples do not; recall."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.config import CheckpointConfig
from models.encoded import Encoded
from models.features.text import TextTokenizer
from models.heads import EmbeddingHead
from models.heads.embedding import FUSED
from models.network import FusionRNN
from models.training.examples import Example
from models.training.experiment import Experiment, ExperimentError
from models.training.metrics.figures import Figures
from models.training.metrics.retrieval import pair_retrieval_figures
from models.training.objectives import info_nce, max_violation, over_pairs
from models.training.pairs import Pairs
from models.training.targets.captioning import Captions, CaptionTarget
from models.training.targets.target import Target

Media = Mapping[str, str]
"""Digests of an example's media by modality, and of all of them as ``fused``."""


class PairTarget(Target):
    """No field: what an example's other modality is, is the target. What is learned are the digests by modality."""

    field = ""
    score = "recall_at_5"
    least_batch = 2

    def __init__(self, experiment: Experiment) -> None:
        super().__init__(experiment)
        if len(experiment.modalities) < 2:
            raise ExperimentError("the task 'embedding' brings modalities together: name at least two")
        if experiment.target:
            raise ExperimentError("the task 'embedding' has no target: an example's modalities are each other's")
        if experiment.training.batch_size < self.least_batch:
            raise ExperimentError(
                "[training] batch_size: an embedding tells an example from the others of its batch, so give at least "
                f"{self.least_batch}, not {experiment.training.batch_size}"
            )

    @staticmethod
    def value(fields: Mapping[str, Any], name: str, modalities: Collection[str]) -> Captions | None:
        """None; or for measuring, the sentences by language in a field ``name``, several to stand for a text."""
        texts = CaptionTarget.value(fields, name, modalities) if name else None
        lacking = [
            modality for modality in modalities if not fields.get(modality) and not (texts and modality == "text")
        ]
        if lacking:
            raise ValueError(f"an example to embed needs all modalities, and this one lacks {', '.join(lacking)}")
        return texts

    def learned(self, example: Example) -> dict[str, str]:
        digests = {str(name): example.digests[name] for name in self.experiment.modalities}
        return {**digests, FUSED: " ".join(digests.values())}

    def describe(self, values: Sequence[Media]) -> dict[str, Any]:
        return {"pairs": len(values)}

    def head(self, tokenizer: TextTokenizer | None) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def prepare(
        self,
        network: FusionRNN,
        config: CheckpointConfig,  # noqa: ARG002
        tokenizer: TextTokenizer | None,  # noqa: ARG002
        train: Sequence[Media],
    ) -> None:
        assert isinstance(network.head, EmbeddingHead)
        self.output = network.head
        self.pairs = Pairs(train)
        self.directions = list(permutations(network.modalities, 2))

    def loss(self, encoded: Encoded, rows: Tensor) -> Tensor:
        return self._loss(encoded, self.pairs, rows.numpy())

    def validation_loss(self, encoded: Encoded, values: Sequence[Media]) -> Tensor | None:
        return self._loss(encoded, Pairs(values)) if len(values) >= self.least_batch else None

    def _loss(self, encoded: Encoded, pairs: Pairs, rows: NDArray[np.int64] | None = None) -> Tensor:
        found = self.output(encoded)
        hinge = self.experiment.training.contrastive_loss == "max-violation"
        objective = max_violation if hinge else partial(info_nce, scale=found.scale)

        def together(one: str, other: str) -> Tensor:
            return torch.from_numpy(pairs.among(one, other, rows)).to(found.present[one].device)

        return over_pairs(found, objective, together)

    def answers(self, encoded: Encoded, values: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        vectors = self.output(encoded).vectors
        arrays = {name: value.double().cpu().numpy() for name, value in vectors.items()}
        return [{name: array[row] for name, array in arrays.items()} for row in range(_rows(vectors))]

    def figures(self, answers: Sequence[Any], values: Sequence[Media]) -> Figures:
        """Recall from each modality to each other one: the mean of all directions."""
        found = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
        pairs = Pairs(values)
        each = [pair_retrieval_figures(found[a], found[b], pairs, (a, b)) for a, b in self.directions]
        return Figures(
            each[0].names, each[0].count, lambda rows: np.mean([figures.statistic(rows) for figures in each], 0)
        )

    def value_of(self, values: Mapping[str, float]) -> float:
        """Recall at 5, and by less recall at 1 and the loss, which go on where few candidates are all found among 5."""
        return values[self.score] + values["recall_at_1"] / 10 - values.get("validation_loss", 0.0)


def _rows(vectors: Mapping[str, Tensor]) -> int:
    return len(next(iter(vectors.values())))
