"""Embedding: every posted modality as a unit vector of one joint space."""

from collections.abc import Mapping, Sequence

from pydantic import Field

from models.checkpoint import Checkpoint
from models.heads.embedding import FUSED, EmbeddingHead, Embeddings
from models.sequence import Padded
from models.tasks.task import Contribution, Query, Result, Task


class EmbeddingResult(Result):
    """Unit vectors by modality (and ``fused``, the whole bundle's, where the checkpoint has one)."""

    embeddings: dict[str, list[float]]
    similarity: float | None = Field(None, ge=-1, le=1, description="Cosine of the two modalities, when two are posted")


class EmbeddingTask(Task):
    """The head's vectors as they are."""

    result = EmbeddingResult

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        head = checkpoint.network.head
        assert isinstance(head, EmbeddingHead)
        self.head = head
        names = [*self.network.modalities, *([FUSED] if head.config.fused else [])]
        similarity = {"similarity": 0.41} if len(self.network.modalities) == 2 else {}
        self.example = self.example_of({"embeddings": {name: [0.8, -0.6] for name in names}, **similarity})

    def predict(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[EmbeddingResult]:  # noqa: ARG002
        encoded = self.network.encode(inputs)
        found = self.head(encoded)
        return [self._result(found, row, shares) for row, shares in enumerate(self.contributions(encoded))]

    def _result(self, found: Embeddings, row: int, modalities: dict[str, Contribution]) -> EmbeddingResult:
        vectors = {name: vector[row] for name, vector in found.vectors.items() if found.present[name][row]}
        posted = [vector for name, vector in vectors.items() if name != FUSED]
        similarity = None
        if len(posted) == 2:
            # Rounding may lift the cosine of equal vectors a hair above 1.
            similarity = min(max(round(float(posted[0] @ posted[1]), 6), -1.0), 1.0)
        return EmbeddingResult(
            embeddings={name: vector.tolist() for name, vector in vectors.items()},
            similarity=similarity,
            modalities=modalities,
        )
