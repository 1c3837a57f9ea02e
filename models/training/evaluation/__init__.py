"""Scores of a checkpoint on a split, with intervals, through the pipeline that serves it: one module a task."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from models.checkpoint import METRICS
from models.features import Modality
from models.pipeline import Pipeline
from models.training.evaluation import (
    captioning,
    classification,
    embedding,
    generation,
    regression,
    transcription,
)
from models.training.evaluation.answers import by_step
from models.training.examples import Split, read_split
from models.training.manifest import DataError
from models.training.report import Faults
from models.training.targets import STEP_TARGETS, TARGETS

EVALUATORS: dict[str, Callable[[Pipeline, Split], dict[str, Any]]] = {
    "captioning": captioning.figures,
    "classification": classification.figures,
    "embedding": embedding.figures,
    "generation": generation.figures,
    "regression": regression.figures,
    "transcription": transcription.figures,
}


def evaluate(folder: Path, data: Path, split: str, target: str | None = None) -> dict[str, Any]:
    """Score the checkpoint in ``folder``, write its ``metrics.json`` and return it.

    Args:
        target: the manifest's field with the target, if it is neither the one trained on nor the task's usual one.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data does not fit the checkpoint's task, or an example cannot be used.
    """
    pipeline = Pipeline.load(folder)
    before = pipeline.metrics or {}
    field = target or before.get("target")
    examples = read_examples(pipeline, data, split, field)
    metrics = measure(pipeline, examples)
    metrics["command"] = f"fusionrnn evaluate {folder.name} --data {metrics['dataset']} --split {split}"
    metrics["command"] += f" --target {target}" if target else ""
    metrics |= {"target": field} if field else {}
    if all(before.get(key) == metrics[key] for key in ("dataset", "split")):
        # What else is known of the network on these data: its seeds, baselines, calibration.
        metrics |= {key: value for key, value in before.items() if key not in metrics}
    elif "seed" in before:
        metrics["seed"] = before["seed"]
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def measure(pipeline: Pipeline, examples: Split) -> dict[str, Any]:
    """Data set, split, number of examples (and of their steps, where each is answered to), and the task's figures.

    Raises:
        DataError: an example does not fit the checkpoint.
    """
    return {
        "dataset": examples.folder.resolve().name,
        "split": examples.name,
        "n": len(examples.examples),
        **({"steps": sum(len(example.target) for example in examples.examples)} if by_step(pipeline) else {}),
        "command": "",
        "figures": EVALUATORS[pipeline.config.task](pipeline, examples),
    }


def read_examples(pipeline: Pipeline, data: Path, split: str, target: str | None) -> Split:
    """The examples of a split for a checkpoint.

    Raises:
        DataError: one of them cannot be used: measuring on the others would say too much.
    """
    kind, faults = (STEP_TARGETS if by_step(pipeline) else TARGETS)[pipeline.config.task], Faults()
    modalities = pipeline.config.modalities
    inline: frozenset[Modality] = frozenset(
        () if "text" in modalities and modalities["text"].features.type == "vectors" else ("text",)
    )
    read = partial(kind.value, name=target or kind.field, modalities=list(modalities))
    examples = read_split(data, split, pipeline.accepts, inline, read, faults)
    if faults.found:
        raise DataError(f"{split}.jsonl cannot be measured on.\n" + "\n".join(faults.lines()))
    return examples
