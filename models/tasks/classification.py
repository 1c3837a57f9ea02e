"""Classification: labels with their probabilities."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field, create_model

from models.checkpoint import Checkpoint
from models.sequence import Padded
from models.tasks.task import Contribution, Options, Result, Task


class Prediction(BaseModel):
    """One label."""

    label: str
    probability: float = Field(ge=0, le=1)


class ClassificationResult(Result):
    """Labels, the most probable first."""

    predictions: list[Prediction]


class ClassificationTask(Task):
    """Softmax over the head's logits."""

    result = ClassificationResult
    example: ClassVar[dict[str, Any]] = {
        "predictions": [{"label": "seven", "probability": 0.98}],
        "modalities": {"image": {"contribution": 1.0}},
    }

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.labels = checkpoint.config.labels or []
        default = min(int(checkpoint.config.defaults.get("top_k", 5)), len(self.labels))
        field = Field(default, ge=1, le=len(self.labels), description="How many labels to return")
        self.options = create_model("ClassificationOptions", __base__=Options, top_k=(int, field))

    def predict(self, inputs: Mapping[str, Padded], options: Any, *, explain: bool) -> ClassificationResult:  # noqa: ARG002
        encoded = self.network.encode(inputs)
        probabilities = self.network.head(encoded)[0].softmax(0)
        values, indices = probabilities.topk(options.top_k)
        found = zip(indices.tolist(), values.tolist(), strict=True)
        contributions: dict[str, Contribution] = self.contributions(encoded.fusion)
        predictions = [Prediction(label=self.labels[index], probability=value) for index, value in found]
        return ClassificationResult(predictions=predictions, modalities=contributions)
