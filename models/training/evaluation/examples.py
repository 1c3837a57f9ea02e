"""The examples of a split that a checkpoint can be measured on."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from models.features import Modality
from models.media.errors import MediaError
from models.pipeline import Pipeline, parts_for
from models.tasks.transcription import TranscriptionTask
from models.training.corpus import fault_of
from models.training.evaluation.answers import by_step
from models.training.examples import Example, Split, read_split
from models.training.manifest import DataError
from models.training.progress import progress
from models.training.report import Faults
from models.training.spelling import too_long
from models.training.splits import check_left_out
from models.training.targets import STEP_TARGETS, TARGETS


def read_examples(pipeline: Pipeline, data: Path, split: str, target: str | None) -> Split:
    """The examples of a split for a checkpoint, their media unread.

    Raises:
        DataError: a line cannot be used: figures on the others would not be those that are recorded.
    """
    faults = Faults()
    examples = _listed(pipeline, data, split, target, faults)
    if faults.found:
        raise DataError(f"{split}.jsonl cannot be measured on.\n" + "\n".join(faults.lines()))
    return examples


def usable_examples(pipeline: Pipeline, data: Path, split: str, target: str | None, *, left_out: float) -> Split:
    """The examples that can be answered to; what training would leave out is left out, and said on stderr.

    Raises:
        DataError: that is more than the share ``left_out``, or something with which training would not start.
    """
    faults = Faults()
    listed = _listed(pipeline, data, split, target, faults)
    usable = []
    with progress("examples", total=len(listed.examples)) as advance:
        for example in listed.examples:
            if (fault := _fault(pipeline, listed, example)) is None:
                usable.append(example)
            else:
                faults.add(fault[0], f"{split}.jsonl, {example.name()}", fault[1])
            advance()
    faults.stop_if_fatal()
    check_left_out(listed, len(usable), left_out, faults, by="the checkpoint's training")
    if faults.found:
        print(f"Measured on {len(usable)} of the {listed.total} examples of {split}.jsonl.", file=sys.stderr)
        print("\n".join(faults.lines()), file=sys.stderr)
    return replace(listed, examples=usable)


def _listed(pipeline: Pipeline, data: Path, split: str, target: str | None, faults: Faults) -> Split:
    kind = (STEP_TARGETS if by_step(pipeline) else TARGETS)[pipeline.config.task]
    modalities = pipeline.config.modalities
    read = partial(kind.found, name=target or kind.field, modalities=list(modalities))
    return read_split(data, split, pipeline.accepts, inline_parts(pipeline), read, faults)


def inline_parts(pipeline: Pipeline) -> frozenset[Modality]:
    """The parts that a manifest holds themselves, rather than the names of their files."""
    modalities = pipeline.config.modalities
    ready = "text" in modalities and modalities["text"].features.type == "vectors"
    return frozenset(() if ready else ("text",))


def _fault(pipeline: Pipeline, split: Split, example: Example) -> tuple[str, str] | None:
    """The kind of fault for which training leaves an example out, and what it is; None where all is well."""
    modalities = pipeline.config.modalities
    parts = {name: parts_for(name, item.features, modalities) for name, item in modalities.items()}
    needed = [name for name, item in modalities.items() if item.required]
    if lacking := [name for name in needed if not parts[name] & example.parts.keys()]:
        return "examples without a required modality", f"no {', '.join(lacking)}"
    try:
        decoded = pipeline.decode(split.sources(example, parts))
    except MediaError as error:
        return fault_of(error), str(error)
    try:
        extracted = pipeline.features(decoded)
    except MediaError as error:
        return "steps that do not pair", str(error)
    lengths = {name: len(tensor) for name, tensor in extracted.tensors.items()}
    if not (steps := max(lengths.values())):
        return "silent features", f"none of {', '.join(decoded.media)}"
    if by_step(pipeline) and len(example.target) != steps:
        return "targets for other steps", f"{len(example.target)} targets, but {steps} steps"
    if isinstance(pipeline.task, TranscriptionTask):
        inputs = partial(pipeline.padded, [extracted])
        cut = too_long(example.target, lengths, inputs, pipeline.network, pipeline.task.tokenizer)
        if cut is not None:
            return "transcripts too long for their steps", cut
    return None
