"""What a checkpoint's task makes of its network: the options it takes and the answer it gives."""

from models.tasks.captioning import CaptioningTask
from models.tasks.classification import ClassificationTask
from models.tasks.task import Task

TASKS: dict[str, type[Task]] = {"captioning": CaptioningTask, "classification": ClassificationTask}

__all__ = ["TASKS", "CaptioningTask", "ClassificationTask", "Task"]
