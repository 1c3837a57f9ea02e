"""What each task learns, by the task's name, for a bundle or for each of its steps."""

from models.training.targets.captioning import CaptionTarget
from models.training.targets.classification import ClassTarget
from models.training.targets.embedding import PairTarget
from models.training.targets.language_model import NextWordTarget
from models.training.targets.regression import NumberTarget
from models.training.targets.steps import ClassStepsTarget, NumberStepsTarget
from models.training.targets.target import Target
from models.training.targets.transcription import TranscriptTarget

TARGETS: dict[str, type[Target]] = {
    "captioning": CaptionTarget,
    "classification": ClassTarget,
    "embedding": PairTarget,
    "generation": NextWordTarget,
    "regression": NumberTarget,
    "transcription": TranscriptTarget,
}

STEP_TARGETS: dict[str, type[Target]] = {"classification": ClassStepsTarget, "regression": NumberStepsTarget}
"""Of tasks whose head may answer to each step."""

__all__ = ["STEP_TARGETS", "TARGETS", "Target"]
