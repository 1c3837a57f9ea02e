"""Scores of a checkpoint on a split, with intervals, through the pipeline that serves it: one module a task."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models.checkpoint import METRICS
from models.files import write_whole
from models.pipeline import Pipeline
from models.training.commands import evaluate_command
from models.training.evaluation import (
    captioning,
    classification,
    embedding,
    generation,
    regression,
    transcription,
)
from models.training.evaluation.answers import by_step
from models.training.evaluation.examples import read_examples, usable_examples
from models.training.examples import Split
from models.training.plan import TrainingPlan

__all__ = ["ELSEWHERE", "EVALUATORS", "evaluate", "measure", "merged", "read_examples"]

ELSEWHERE = "elsewhere"
EVALUATORS: dict[str, Callable[[Pipeline, Split], dict[str, Any]]] = {
    "captioning": captioning.figures,
    "classification": classification.figures,
    "embedding": embedding.figures,
    "generation": generation.figures,
    "regression": regression.figures,
    "transcription": transcription.figures,
}


def evaluate(
    folder: Path, data: Path, split: str, target: str | None = None, *, save: bool = False, device: str = "cpu"
) -> dict[str, Any]:
    """Score the checkpoint in ``folder`` and return what was measured.

    Args:
        target: the manifest's field with the target, if it is neither the one trained on nor the task's usual one.
        save: also write it into ``metrics.json``, beside what stands there.
        device: where the network computes, as torch calls it.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data does not fit the checkpoint's task, or more examples than in training cannot be used.
        OSError: ``metrics.json`` cannot be written.
    """
    pipeline = Pipeline.load(folder, device)
    before = pipeline.metrics or {}
    field = target or before.get("target")
    left_out = before.get("left_out", TrainingPlan().left_out)
    metrics = measure(pipeline, usable_examples(pipeline, data, split, field, left_out=left_out))
    metrics["command"] = evaluate_command(folder, data, split, target)
    metrics |= {"target": field} if field else {}
    if save:
        write_whole(folder / METRICS, json.dumps(merged(before, metrics), indent=2) + "\n")
    return metrics


def merged(before: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """``measured`` in place of what ``before`` says of the same data, and all else as it was.

    Figures of other data than those that the checkpoint came with stand in ``elsewhere``, one entry a data set, split
    and target.
    """
    if not before or _same_data(before, measured):
        # What else is known of the network on these data: its seeds, baselines, calibration.
        return {**before, **measured, "figures": {**before.get("figures", {}), **measured["figures"]}}
    others = [entry for entry in before.get(ELSEWHERE, []) if not _same_data(entry, measured)]
    return {**before, ELSEWHERE: [*others, dict(measured)]}


def _same_data(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both are of the same targets; where one does not name its target, it is the usual one."""
    keys = ["dataset", "split", *(["target"] if "target" in one and "target" in other else [])]
    return all(one.get(key) == other.get(key) for key in keys)


def measure(pipeline: Pipeline, examples: Split) -> dict[str, Any]:
    """Data set, split, number of examples (of how many, and of their steps, where that says more), and the figures.

    Raises:
        DataError: an example does not fit the checkpoint.
    """
    return {
        "dataset": examples.folder.resolve().name,
        "split": examples.name,
        "n": len(examples.examples),
        **({"total": examples.total} if examples.total > len(examples.examples) else {}),
        **({"steps": sum(len(example.target) for example in examples.examples)} if by_step(pipeline) else {}),
        "command": "",
        "figures": EVALUATORS[pipeline.config.task](pipeline, examples),
    }
