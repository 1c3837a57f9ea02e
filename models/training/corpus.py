"""A data folder made ready to train on: examples, vocabulary and cached features of both splits.

The features are extracted by the same objects that serve; what they cost is paid once and kept on disk.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from models.config import CheckpointConfig
from models.features import FEATURES, Features, Modality
from models.features.features import empty, nothing_in
from models.features.text import TextTokenizer, frequent, split_words, start_token
from models.media.errors import MediaError, MediaOutOfBounds, MediaTooLarge
from models.media.limits import MediaLimits
from models.registry import FUSIONS
from models.sequence import Padded, pad
from models.training.augmentation import AUGMENTATIONS
from models.training.examples import Split
from models.training.experiment import Experiment
from models.training.manifest import DataError
from models.training.ragged import Ragged, Unusable, cached_ragged
from models.training.report import Faults, Report, split_report
from models.training.spelling import unspellable
from models.training.splits import check_left_out, parts_of, ready_in
from models.training.targets import Target


@dataclass(frozen=True, slots=True)
class Part:
    """One split's usable examples: features by modality, and targets, in the same order."""

    split: Split
    rows: NDArray[np.int64]
    """Places in ``split.examples`` of those that are used."""

    features: Mapping[Modality, Ragged]
    targets: list[Any]

    @property
    def lengths(self) -> dict[Modality, NDArray[np.int64]]:
        """Steps [N] of each modality."""
        return {name: ragged.lengths[self.rows] for name, ragged in self.features.items()}

    def examples(self) -> Split:
        """The used examples by themselves."""
        return replace(self.split, examples=[self.split.examples[row] for row in self.rows])

    def inputs(self, batch: Tensor, augment: Mapping[Modality, tuple[str, ...]] | None = None) -> dict[str, Padded]:
        """The padded features of examples (int64 [B], places among the usable ones); what none has is left out."""
        inputs = {}
        for name, ragged in self.features.items():
            tensors = [ragged[int(self.rows[place])] for place in batch.tolist()]
            for kind in (augment or {}).get(name, ()):
                tensors = [AUGMENTATIONS[kind](tensor) if len(tensor) else tensor for tensor in tensors]
            if any(len(tensor) for tensor in tensors):
                inputs[str(name)] = pad(tensors)
        return inputs


@dataclass(frozen=True, slots=True)
class Corpus:
    """Both splits, and what is known only from the data."""

    train: Part
    val: Part
    tokenizer: TextTokenizer | None
    vectors: Mapping[Modality, int]
    report: Report


def load_corpus(
    experiment: Experiment,
    target: Target,
    splits: Mapping[str, Split],
    cache: Path,
    faults: Faults,
    known: TextTokenizer | None = None,
) -> Corpus:
    """Featurize both splits, as ``read_splits`` gives them, and check what comes of them; ``faults`` goes on.

    Args:
        known: the words that are known from before; those of the data come behind them.

    Raises:
        DataError: the data cannot be trained on; the message says what, where and what to do.
    """
    if experiment.task == "generation" and known is not None and known.pairs:
        raise DataError(
            "The checkpoint that is started from reads Chinese words beside their characters, and would write both: "
            "start a text generation from another one, or without `--start`"
        )
    names, ready, parts = list(experiment.modalities), ready_in(experiment), parts_of(experiment)
    vectors = {name: _vector_size(splits["train"], name) for name in ready}
    features: dict[Modality, Features] = {
        name: FEATURES.parse(experiment.features(name, _size(vectors, name))) for name in names
    }
    tokenizer = _tokenizer(experiment, target, splits["train"], features, known)
    optional = {name: features[name] for name in names if not experiment.modalities[name].required}
    nothing = nothing_in(experiment.task, optional)
    ragged = {
        split.name: _without_empty(
            {name: _ragged(experiment, split, name, features[name], parts, tokenizer, cache) for name in names}, nothing
        )
        for split in splits.values()
    }
    steps = _StepRule(
        field=target.name,
        counted=experiment.by_step,
        paired=FUSIONS.config(experiment.fusion_table()["type"]).paired,
        ready=ready,
        required=frozenset(name for name, plan in experiment.modalities.items() if plan.required),
    )
    used = {name: _usable(split, ragged[name], steps, target, faults) for name, split in splits.items()}
    faults.stop_if_fatal()
    if experiment.task == "transcription" and tokenizer is not None:
        config = experiment.checkpoint(
            head=target.head(tokenizer), vocabulary=tokenizer.size, vectors=vectors, labels=None, defaults={}
        )
        used = {name: _spellable(part, config, tokenizer, faults) for name, part in used.items()}
    for part in used.values():
        check_left_out(part.split, len(part.rows), experiment.training.left_out, faults)
    if len(used["val"].rows) == 1:
        faults.add(
            "one example to measure by", "val.jsonl", f"only {used['val'].examples().examples[0].name()} is used"
        )
    report = Report(
        {
            name: split_report(
                splits[name].total,
                {key: list(value) for key, value in part.lengths.items()},
                target.describe(part.targets),
                [f"{key}: {word}" for key, value in part.features.items() for row in part.rows
                 for word in value.notices.get(int(row), ())],
            )
            for name, part in used.items()
        },
        faults,
    )  # fmt: skip
    return Corpus(used["train"], used["val"], tokenizer, vectors, report)


def _without_empty(rows: Mapping[Modality, Ragged], nothing: Mapping[str, str | None]) -> dict[Modality, Ragged]:
    """What is served without a modality that has nothing in it is learned without it, too."""
    lengths = {name: ragged.lengths for name, ragged in rows.items()}
    left_out: dict[str, set[int]] = defaultdict(set)
    for row in sorted({row for ragged in rows.values() for row in ragged.notices}):
        present = [name for name in rows if lengths[name][row]]
        for name in empty(present, {name: rows[name].notices.get(row, ()) for name in present}, nothing):
            left_out[name].add(row)
    return {name: replace(ragged, left_out=frozenset(left_out[name])) for name, ragged in rows.items()}


def _ragged(
    experiment: Experiment,
    split: Split,
    name: Modality,
    features: Features,
    parts: Mapping[Modality, frozenset[Modality]],
    tokenizer: TextTokenizer | None,
    cache: Path,
) -> Ragged:
    most = experiment.modalities[name].max_items

    def compute(row: int) -> tuple[Tensor | None, list[str]]:
        example = split.examples[row]
        posted = split.sources(example, parts)
        given = {part: data for part, data in posted.items() if part in parts[name]}
        try:
            media = features.decode(name, given, MediaLimits(), most)
        except MediaError as error:
            raise Unusable(fault_of(error), str(error)) from error
        if not media:
            return None, []
        tensor = features.extract(media, tokenizer)
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise Unusable("features that are not finite", f"{name} has NaN or infinity")
        return tensor, features.notices(media, tensor, tokenizer)

    words = tokenizer.words(range(tokenizer.size)) if tokenizer is not None and features.type == "tokens" else None
    key = {
        "features": features.model_dump(),
        "items": most,
        "words": words,
        "media": [[example.digests.get(part) for part in sorted(parts[name])] for example in split.examples],
    }
    room = experiment.training.cache_gigabytes * 1e9
    return cached_ragged(cache, f"{name}-{split.name}", key, len(split.examples), compute, most_bytes=room)


def fault_of(error: MediaError) -> str:
    """The kind of fault that a medium has which cannot be used."""
    # The reader of ready vectors refuses these itself; elsewhere they can come only of the features.
    if " NaN " in error.detail:
        return "features that are not finite"
    if (error.limit or "").endswith(" numbers a vector"):
        return "vectors of another size"
    # A whole file that is too long is not mended by converting it.
    return "media out of bounds" if isinstance(error, MediaOutOfBounds | MediaTooLarge) else "unreadable media"


@dataclass(frozen=True, slots=True)
class _StepRule:
    """How many steps an example may have: only those of ``ready`` features are sure to reach the fusion as they are."""

    field: str
    counted: bool
    """Whether there must be as many targets in ``field`` as fused steps, which are those of the longest modality."""

    paired: bool
    ready: frozenset[Modality]
    required: frozenset[Modality]
    """What the served checkpoint refuses to go without."""

    def fault(self, target: Any, steps: Mapping[Modality, int]) -> tuple[str, str] | None:
        """The kind of fault, and what it is, in the steps of each modality (0 where absent); None where all is well."""
        if not any(steps.values()):
            return "silent features", f"none of {', '.join(steps)}"
        if lacking := sorted(name for name in self.required if not steps[name]):
            return "examples without a required modality", f"no {', '.join(lacking)}"
        here = {name: count for name, count in steps.items() if count and name in self.ready}
        said = ", ".join(f"{count} of {name}" for name, count in here.items())
        if self.paired and len(set(here.values())) > 1:
            return "steps that do not pair", said
        if self.counted and len(target) != max(here.values()):
            return "targets for other steps", f"{len(target)} in '{self.field}', but {said}"
        return None


def _usable(split: Split, features: Mapping[Modality, Ragged], rule: _StepRule, target: Target, faults: Faults) -> Part:
    """Leave out the examples with a fault in any modality or in their steps, and those with features of none."""
    rows = []
    for row, example in enumerate(split.examples):
        bad = [ragged.faults[row] for ragged in features.values() if row in ragged.faults]
        steps = {name: int(ragged.lengths[row]) for name, ragged in features.items()}
        if not bad and (odd := rule.fault(example.target, steps)) is not None:
            bad = [odd]
        for kind, reason in bad:
            faults.add(kind, f"{split.name}.jsonl, {example.name()}", reason)
        if not bad:
            rows.append(row)
    return Part(split, np.array(rows, np.int64), features, [target.learned(split.examples[row]) for row in rows])


def _spellable(part: Part, config: CheckpointConfig, tokenizer: TextTokenizer, faults: Faults) -> Part:
    """Leave out the examples whose transcripts have more words than the network has steps for."""
    found = unspellable(part.targets, part.lengths, part.inputs, config, tokenizer)
    for place, reason in found.items():
        where = f"{part.split.name}.jsonl, {part.split.examples[part.rows[place]].name()}"
        faults.add("transcripts too long for their steps", where, reason)
    kept = [place for place in range(len(part.rows)) if place not in found]
    return replace(part, rows=part.rows[kept], targets=[part.targets[place] for place in kept])


def _tokenizer(
    experiment: Experiment,
    target: Target,
    train: Split,
    features: Mapping[Modality, Features],
    known: TextTokenizer | None,
) -> TextTokenizer | None:
    """The vocabulary of what is read and written, or None where neither is text."""
    texts: list[str] = list(target.texts([example.target for example in train.examples]))
    reader = features.get("text")
    if reader is not None and reader.type == "tokens":
        texts += [text for example in train.examples for text in _read(reader, example.parts.get("text", ()))]
    elif not texts:
        return None
    split = split_words if known is None else known.split
    words = frequent(Counter(word for text in texts for word in split(text)), experiment.training.minimum_count)
    if known is None:
        return TextTokenizer.build(words, target.languages())
    return known.extended([*map(start_token, target.languages()), *words])


def _read(features: Features, texts: Sequence[str]) -> list[str]:
    """An example's texts as the network reads them; none where it cannot, which is said with the line elsewhere."""
    try:
        return features.decode("text", {"text": list(texts)}, MediaLimits(), len(texts))
    except MediaError:
        return []


def _vector_size(train: Split, name: Modality) -> int:
    """The most frequent size of a modality's ready vectors; files of another are left out later, by name."""
    paths = (path for example in train.examples for path in example.parts.get(name, ()))
    sizes = Counter(size for path in paths if (size := _width(train.folder / path)))
    if not sizes:
        raise DataError(f"train.jsonl names no readable .npy file of vectors [T, D] under '{name}'")
    return sizes.most_common(1)[0][0]


def _width(path: Path) -> int:
    """Size of the vectors in a file, of which only the header is read; 0 where there are none."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return 0
    return int(array.shape[-1]) if isinstance(array, np.ndarray) and array.ndim in (1, 2) else 0


def _size(vectors: Mapping[Modality, int], name: Modality) -> dict[str, int] | None:
    return {"size": vectors[name]} if name in vectors else None
