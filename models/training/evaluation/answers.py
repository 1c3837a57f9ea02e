"""A split's answers from the pipeline that serves the checkpoint, and its encoded batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.encoded import Encoded
from models.features import Extracted
from models.media.errors import MediaError
from models.pipeline import Pipeline, parts_for
from models.training.examples import Example, Split
from models.training.manifest import DataError
from models.training.metrics.figures import Figures
from models.training.progress import progress


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers beside their targets: one an example, or one a step, example after example."""

    answers: list[Any]
    targets: list[Any]
    groups: list[int] | None
    """Steps of each example; None where an example has one answer."""

    def intervals(self, figures: Figures) -> dict[str, Any]:
        """``figures`` of these answers with intervals over examples."""
        return figures.grouped(self.groups).intervals()


def by_step(pipeline: Pipeline) -> bool:
    """Whether the checkpoint answers to each step."""
    return bool(getattr(pipeline.config.network.head, "per", "bundle") == "step")


def answered(pipeline: Pipeline, split: Split, **options: Any) -> Answered:
    """The served answers to every example, or to its steps.

    Raises:
        DataError: a medium cannot be read or answered to, or an example has not a target a step.
    """
    results = answers(pipeline, split, **options)
    if not by_step(pipeline):
        return Answered(results, [example.target for example in split.examples], None)
    for example, result in zip(split.examples, results, strict=True):
        if len(example.target) != len(result.steps):
            raise DataError(
                f"{split.name}.jsonl, {example.name()}, has {len(example.target)} targets and {len(result.steps)} "
                "steps: give it one a step"
            )
    return Answered(
        [step for result in results for step in result.steps],
        [target for example in split.examples for target in example.target],
        [len(example.target) for example in split.examples],
    )


def answers(pipeline: Pipeline, split: Split, **options: Any) -> list[Any]:
    """The served result for every example, asked for one at a time.

    Raises:
        DataError: a medium cannot be read, or its sequences do not go together.
    """
    chosen = pipeline.options.model_validate(options)
    results = []
    with progress("answers", total=len(split.examples)) as advance:
        for example in split.examples:
            features = extracted(pipeline, split, example)
            try:
                results.append(pipeline.predict(features, chosen))
            except ValueError as error:
                raise DataError(f"{split.name}.jsonl, {example.name()}, cannot be answered to: {error}") from error
            advance()
    return results


def encoded_batches(pipeline: Pipeline, split: Split, size: int = 25) -> Iterator[tuple[list[Extracted], Encoded]]:
    """The examples' features and encodings, ``size`` at a time: for searches over many rows at once."""
    with progress("batches", total=-(-len(split.examples) // size)) as advance:
        for first in range(0, len(split.examples), size):
            features = [extracted(pipeline, split, example) for example in split.examples[first : first + size]]
            yield features, pipeline.network.encode(pipeline.padded(features))
            advance()


def extracted(pipeline: Pipeline, split: Split, example: Example) -> Extracted:
    """An example's features, by the code that serves."""
    modalities = pipeline.config.modalities
    parts = {name: parts_for(name, item.features, modalities) for name, item in modalities.items()}
    try:
        return pipeline.features(pipeline.decode(split.sources(example, parts)))
    except MediaError as error:
        raise DataError(f"{split.name}.jsonl, {example.name()}, cannot be used: {error}") from error
