"""What a checkpoint's task makes of its network: the options it takes and the answer it gives."""

from pydantic import ValidationError

from models.checkpoint import Checkpoint
from models.config import DEFAULTS_OF
from models.config import Task as TaskName
from models.refusals import first_fault, nearest
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
    "task_of",
]


def task_of(checkpoint: Checkpoint) -> Task:
    """What makes answers of a checkpoint's network; asking for none of its options gives its ``defaults``.

    Raises:
        ValueError: the network does not fit the task, or ``defaults`` has a name that the task does not read, or a
            value out of bounds.
    """
    config = checkpoint.config
    task = TASKS[config.task](checkpoint)
    known = {*task.options.model_fields, *DEFAULTS_OF.get(config.task, ())}
    for name in config.defaults:
        if name not in known:
            raise ValueError(f"defaults has an unknown key '{name}'{nearest(name, known)}")
    try:
        task.options()
    except ValidationError as error:
        raise ValueError(f"defaults.{first_fault(error)}") from error
    return task
