"""Classification: labels with their probabilities, for a bundle or for each of its steps."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, Field
from torch import Tensor

from models.checkpoint import Checkpoint
from models.encoded import Encoded
from models.options import options_model
from models.sequence import Padded
from models.tasks.task import Contribution, Query, Result, Task


class Prediction(BaseModel):
    """One label."""

    label: str
    probability: float = Field(ge=0, le=1)


class Votes(BaseModel):
    """What each present modality would have answered by itself, the most probable label first."""

    votes: dict[str, list[Prediction]]


class ClassificationResult(Result):
    """Labels, the most probable first."""

    predictions: list[Prediction]
    explanation: Votes | None = None


class Step(BaseModel):
    """One step's labels, the most probable first."""

    predictions: list[Prediction]


class StepClassificationResult(Result):
    """Labels of each step, such as each utterance of a conversation, in order."""

    steps: list[Step]


class ClassificationTask(Task):
    """Softmax over the head's logits, divided by ``defaults.temperature`` where training has calibrated one.

    The temperature makes probabilities as high as the answers are often right (Guo et al. 2017).
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = checkpoint.config
        self.labels = config.labels or []
        self.temperature = float(config.defaults.get("temperature", 1.0))
        self.by_step = getattr(config.network.head, "per", "bundle") == "step"
        self.result = StepClassificationResult if self.by_step else ClassificationResult
        # A decision head's fusion has votes, whichever modalities are posted.
        self.explains = config.network.head.type == "decision"
        most = len(self.labels)
        # The usual five, where there are as many; a default of the checkpoint's own is held to the bounds.
        top_k = Annotated[int, Field(ge=1, le=most, description="How many labels to return")]
        self.options = options_model("ClassificationOptions", config.defaults, top_k=(top_k, min(5, most)))
        predictions = [{"label": self.labels[0], "probability": 0.98}]
        self.example = self.example_of(
            {"steps": [{"predictions": predictions}]} if self.by_step else {"predictions": predictions}
        )

    def predict(self, inputs: Mapping[str, Padded], queries: Sequence[Query]) -> list[Result]:
        encoded = self.network.encode(inputs)
        probabilities = (self.network.head(encoded) / self.temperature).softmax(-1)
        shares = self.contributions(encoded)
        return [self._result(probabilities[row], encoded, row, query, shares[row]) for row, query in enumerate(queries)]

    def _result(
        self, probabilities: Tensor, encoded: Encoded, row: int, query: Query, modalities: dict[str, Contribution]
    ) -> Result:
        fusion, most = encoded.fusion, query.options.top_k
        if self.by_step:
            assert fusion.sequence is not None
            real = probabilities[: int(fusion.sequence.lengths[row])]
            steps = [Step(predictions=self._best(step, most)) for step in real]
            return StepClassificationResult(steps=steps, modalities=modalities)
        explanation = None
        if query.explain and fusion.votes is not None:
            votes = zip(self.network.modalities, (fusion.votes[row] / self.temperature).softmax(-1), strict=True)
            explanation = Votes(votes={name: self._best(vote, most) for name, vote in votes if name in modalities})
        predictions = self._best(probabilities, most)
        return ClassificationResult(predictions=predictions, modalities=modalities, explanation=explanation)

    def _best(self, probabilities: Tensor, count: int) -> list[Prediction]:
        values, indices = probabilities.topk(count)
        found = zip(indices.tolist(), values.tolist(), strict=True)
        # Rounding may lift a sum of float32 probabilities a hair above 1.
        return [Prediction(label=self.labels[index], probability=min(value, 1.0)) for index, value in found]
