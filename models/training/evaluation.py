"""Scores of a checkpoint on a split, with intervals, through the pipeline that serves it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoint import METRICS
from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.pipeline import Pipeline
from models.sequence import pad
from models.tasks.captioning import CaptioningTask
from models.training.manifest import DataError, Manifest, read_manifest
from models.training.metrics.bleu import bleu, bleu_statistics
from models.training.metrics.cider import CiderD
from models.training.metrics.intervals import bootstrap
from models.training.progress import progress


def evaluate(folder: Path, data: Path, split: str) -> dict[str, Any]:
    """Score the checkpoint in ``folder``, write its ``metrics.json`` and return it.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data does not fit the checkpoint's task.
    """
    pipeline = Pipeline.load(folder)
    if pipeline.config.task != "captioning":
        raise DataError(f"there is no evaluation for the task '{pipeline.config.task}'")
    manifest = read_manifest(data, split, media=("image",))
    metrics: dict[str, Any] = {
        "dataset": data.name,
        "split": split,
        "n": len(manifest.examples),
        "command": f"fusionrnn evaluate {folder.name} --data {data.name} --split {split}",
        "figures": {},
    }
    written = _captions(pipeline, manifest)
    for (language, search), texts in written.items():
        metrics["figures"][f"{language}, {search}"] = caption_figures(texts, _references(manifest, language))
    (folder / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def caption_figures(written: list[str], references: list[list[str]]) -> dict[str, Any]:
    """BLEU-1..4 and CIDEr-D, each in percent as [value, low, high], and the share of distinct captions.

    Case and punctuation are left out; Chinese counts characters.
    """
    splitter = TextTokenizer.build([])
    words = [splitter.split(text) for text in written]
    truths = [[splitter.split(text) for text in texts] for texts in references]
    scorer = CiderD(truths)
    ciders = np.array([scorer.score(w, scorer.prepare(t)) for w, t in zip(words, truths, strict=True)])
    counts = np.stack([bleu_statistics(w, t) for w, t in zip(words, truths, strict=True)])

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([*bleu(counts[rows].sum(0)), 100 * ciders[rows].mean()])

    everything = statistic(np.arange(len(words)))
    low, high = bootstrap(statistic, len(words))
    names = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider_d")
    figures: dict[str, Any] = {
        name: [round(float(value), 2) for value in (everything[i], low[i], high[i])] for i, name in enumerate(names)
    }
    figures["distinct"] = round(len(set(written)) / len(written), 3)
    figures["words"] = round(float(np.mean([len(w) for w in words])), 2)
    return figures


@torch.inference_mode()
def _captions(pipeline: Pipeline, manifest: Manifest, batch: int = 25) -> dict[tuple[str, str], list[str]]:
    """The best caption of every photo by language and search, from the media and features code that serves."""
    task = pipeline.task
    assert isinstance(task, CaptioningTask)
    ways = {
        (language, search): pipeline.options.model_validate({"language": language, "beam_size": beam_size})
        for language in pipeline.languages
        for search, beam_size in (("beam 3", 3), ("greedy", 1))
    }
    written: dict[tuple[str, str], list[str]] = {way: [] for way in ways}
    with progress("captions", total=-(-len(manifest.examples) // batch)) as advance:
        for first in range(0, len(manifest.examples), batch):
            photos = [manifest.path(e, "image").read_bytes() for e in manifest.examples[first : first + batch]]
            features = [pipeline.features(pipeline.decode({"image": [photo]}, MediaLimits())) for photo in photos]
            encoded = pipeline.network.encode({"image": pad([feature.tensors["image"] for feature in features])})
            for way, options in ways.items():
                written[way] += task.best(encoded, options)
            advance()
    return written


def _references(manifest: Manifest, language: str) -> list[list[str]]:
    references = [example.get("captions", {}).get(language) or [] for example in manifest.examples]
    if not all(references):
        raise DataError(f"{manifest.folder} has photos without '{language}' captions")
    return references
