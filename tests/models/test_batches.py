"""Answers of a batch are those that its bundles get alone, whatever else is in it: every shipped checkpoint."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import models
from models.features import Extracted
from models.pipeline import Decoded, Pipeline
from models.tasks.task import Query
from tests.models.tasks.checkpoints import described, pipeline
from tests.support import tiny_tokenizer

ZOO = sorted(path.parent for path in Path(next(iter(models.__path__))).glob("zoo/*/config.json"))
LONGEST = {"image": 2, "text": 24, "audio": 60, "video": 12}
CHOICES: dict[str, list[dict[str, Any]]] = {
    "classification": [{}, {"top_k": 1}],
    "transcription": [{}, {"beam_size": 3}],
    "captioning": [{}, {"beam_size": 1, "language": "zh"}, {"num_captions": 2, "max_length": 5}],
    "generation": [{"seed": 3, "max_length": 4}, {"temperature": 0, "max_length": 9}],
}


@cache
def loaded(folder: Path) -> Pipeline:
    return Pipeline.load(folder)


def random_tensor(like: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Steps in the manner of ``like`` [T, ...]: around its own values, or any of its integers."""
    shape = (steps, *like.shape[1:])
    if like.is_floating_point():
        return like.mean() + torch.randn(shape, generator=generator)
    return torch.randint(0, int(like.max()) + 1, shape, generator=generator).to(like.dtype)


def bundle(served: Pipeline, chance: random.Random) -> Query:
    """Some of the modalities, of any lengths, and any options."""
    generator = torch.Generator().manual_seed(chance.randrange(2**31))
    modalities = served.config.modalities
    needed = [name for name, item in modalities.items() if item.required]
    posted = {*needed, *chance.sample(list(modalities), chance.randint(1, len(modalities)))}
    tensors = {}
    for name in modalities:
        if name in posted:
            like = served.features(Decoded({name: modalities[name].features.blank()})).tensors[name]
            tensors[str(name)] = random_tensor(like, chance.randint(1, LONGEST[name]), generator)
    options = served.options.model_validate(chance.choice(CHOICES.get(served.config.task, [{}])))
    return Query(Extracted(tensors), options, explain=served.explains and chance.random() < 0.3)


def same(one: Any, other: Any) -> bool:
    """Equal; numbers within 1e-5, or by the last digit of those that are rounded to four or five."""
    if isinstance(one, dict):
        # Labels of equal probability may change places.
        keys = {"probability"} if one.keys() == {"label", "probability"} else one.keys() | other.keys()
        return bool(one.keys() == other.keys()) and all(same(one[key], other[key]) for key in keys)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        shortest = next(
            (digits for digits in (4, 5) if round(one, digits) == one and round(other, digits) == other), None
        )
        last = 0 if shortest is None else 1.01 * 10**-shortest
        return bool(abs(one - other) <= max(1e-5, last))
    return type(one) is type(other) and bool(one == other)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("folder", ZOO, ids=lambda folder: folder.name)
def test_batched_answers_are_those_of_each_bundle_alone(folder: Path, seed: int) -> None:
    served, chance = loaded(folder), random.Random(seed)
    queries = [bundle(served, chance) for _ in range(5)]
    for answer, query in zip(served.predict_batch(queries), queries, strict=True):
        alone = served.predict(query.features, query.options, explain=query.explain)
        assert same(answer.model_dump(), alone.model_dump())


def test_texts_go_on_together_as_they_would_alone() -> None:
    head = {"type": "language-model", "vocabulary": tiny_tokenizer().size}
    served, chance = pipeline(described("generation", head, "text"), loud=3), random.Random(0)
    queries = [bundle(served, chance) for _ in range(12)]
    for answer, query in zip(served.predict_batch(queries), queries, strict=True):
        assert answer == served.predict(query.features, query.options)


@pytest.mark.parametrize("per", ["bundle", "step"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_answers_by_step_have_the_steps_of_their_own_bundle(task: str, per: str) -> None:
    kind = {"classification": {"classes": 3}, "regression": {"outputs": 2}}[task]
    labels = {"labels": ["one", "two", "three"]} if task == "classification" else {}
    fusion = {"type": "recurrent", "hidden": 8}
    config = described(task, {"type": task, "per": per, **kind}, "audio", "text", fusion=fusion, **labels)
    served, chance = pipeline(config, loud=3), random.Random(1)
    queries = [bundle(served, chance) for _ in range(8)]
    for answer, query in zip(served.predict_batch(queries), queries, strict=True):
        alone = served.predict(query.features, query.options)
        assert same(answer.model_dump(), alone.model_dump())
