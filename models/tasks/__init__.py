"""What a checkpoint's task makes of its network: the options it takes and the answer it gives."""

from models.config import Task as TaskName
from models.tasks.captioning import CaptioningTask
from models.tasks.classification import ClassificationTask
from models.tasks.embedding import EmbeddingTask
from models.tasks.generation import GenerationTask
from models.tasks.regression import RegressionTask
from models.tasks.task import Task
from models.tasks.transcription import TranscriptionTask

TASKS: dict[TaskName, type[Task]] = {
    "captioning": CaptioningTask,
    "classification": ClassificationTask,
    "embedding": EmbeddingTask,
    "generation": GenerationTask,
    "regression": RegressionTask,
    "transcription": TranscriptionTask,
}

__all__ = [
    "TASKS",
    "CaptioningTask",
    "ClassificationTask",
    "EmbeddingTask",
    "GenerationTask",
    "RegressionTask",
    "Task",
    "TranscriptionTask",
]
