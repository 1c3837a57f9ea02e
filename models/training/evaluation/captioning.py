"""How the served captions compare with people's."""

from typing import Any

import numpy as np
import torch

from models.features.text import split_words
from models.pipeline import Pipeline
from models.tasks.captioning import CaptioningTask
from models.training.evaluation.answers import encoded_batches
from models.training.examples import Split
from models.training.manifest import DataError
from models.training.metrics.captions import sentence_figures


def figures(pipeline: Pipeline, split: Split) -> dict[str, Any]:
    """`caption_figures` for each language and search, called ``"en, beam 3"`` or ``"en, greedy"``.

    Raises:
        DataError: an example has no captions in one of the checkpoint's languages.
    """
    references = {language: _references(split, language) for language in pipeline.languages}
    return {
        f"{language}, {search}": caption_figures(texts, references[language])
        for (language, search), texts in _captions(pipeline, split).items()
    }


def caption_figures(written: list[str], references: list[list[str]]) -> dict[str, Any]:
    """BLEU-1..4 and CIDEr-D, each in percent as [value, low, high], and the share of distinct captions.

    Case and punctuation are left out; Chinese counts characters.
    """
    words = [split_words(text) for text in written]
    truths = [[split_words(text) for text in texts] for texts in references]
    scores = {
        name: [round(bound, 2) for bound in bounds]
        for name, bounds in sentence_figures(words, truths).intervals().items()
    }
    return scores | {
        "distinct": round(len(set(written)) / len(written), 3),
        "words": round(float(np.mean([len(w) for w in words])), 2),
    }


@torch.inference_mode()
def _captions(pipeline: Pipeline, split: Split) -> dict[tuple[str, str], list[str]]:
    """The best caption of every example by language and search, from the media and features code that serves."""
    task = pipeline.task
    assert isinstance(task, CaptioningTask)
    ways = {
        (language, search): pipeline.options.model_validate({"language": language, "beam_size": beam_size})
        for language in pipeline.languages
        for search, beam_size in (("beam 3", 3), ("greedy", 1))
    }
    written: dict[tuple[str, str], list[str]] = {way: [] for way in ways}
    for _, encoded in encoded_batches(pipeline, split):
        for way, options in ways.items():
            written[way] += task.best(encoded, options)
    return written


def _references(split: Split, language: str) -> list[list[str]]:
    references = [example.target.get(language) or [] for example in split.examples]
    if not all(references):
        raise DataError(f"{split.name}.jsonl has examples without '{language}' captions")
    return references
