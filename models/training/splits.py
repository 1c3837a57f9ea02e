"""Both splits of a data folder, read and checked before any features are computed."""

import json
from collections.abc import Mapping
from pathlib import Path

from models.features import FEATURES, Features, Modality
from models.pipeline import accepted, parts_for
from models.training.examples import Example, Split, read_split
from models.training.experiment import READY, Experiment
from models.training.manifest import DataError
from models.training.report import Faults
from models.training.targets import Target

SPLITS = ("train", "val")


def read_splits(experiment: Experiment, target: Target, folder: Path, faults: Faults) -> dict[str, Split]:
    """The usable examples of ``train.jsonl`` and ``val.jsonl``, by split; ``target`` is fitted to them.

    Raises:
        DataError: the data cannot be trained on; the message says what, where and what to do.
    """
    parts = parts_of(experiment)
    inline: frozenset[Modality] = frozenset(() if "text" in ready_in(experiment) else ("text",))
    most = {name: plan.max_items for name, plan in experiment.modalities.items()}
    accepts = accepted(most, [_features(experiment, name) for name in parts])
    splits = {name: read_split(folder, name, accepts, inline, target.read, faults) for name in SPLITS}
    for split in splits.values():
        check_left_out(split, len(split.examples), experiment.training.left_out, faults)
    train, val = (splits[name] for name in SPLITS)
    _check_modalities(train, parts, faults)
    target.fit([example.target for example in train.examples], [example.target for example in val.examples], faults)
    for split in splits.values():
        # A picture may be captioned on several lines; any other target can only be one of them.
        _check_repeats(split, faults, several=experiment.task == "captioning")
    _check_duplicates(train, val, faults)
    faults.stop_if_fatal()
    return splits


def parts_of(experiment: Experiment) -> dict[Modality, frozenset[Modality]]:
    """The fields of a manifest that can give each modality its features."""
    names = list(experiment.modalities)
    return {name: parts_for(name, _features(experiment, name), names) for name in names}


def ready_in(experiment: Experiment) -> frozenset[Modality]:
    """The modalities whose media are ready vectors."""
    return frozenset(name for name in experiment.modalities if experiment.features(name)["type"] == READY)


def check_left_out(
    split: Split, used: int, most: float, faults: Faults, *, by: str = "`left_out` in [training]"
) -> None:
    """Stop where faults leave more than the share ``most`` of a split out, or all.

    Args:
        used: how many they leave.
        by: what allows the share, in words.

    Raises:
        DataError: with the faults.
    """
    left_out = split.total - used
    if left_out > most * split.total or used == 0:
        raise DataError(
            f"{left_out} of {split.total} examples of {split.name}.jsonl cannot be used; {by} allows {most:.0%}.\n"
            + "\n".join(faults.lines())
        )


def _features(experiment: Experiment, name: Modality) -> type[Features]:
    features = FEATURES.config(str(experiment.features(name)["type"]))
    assert issubclass(features, Features)
    return features


def _check_modalities(train: Split, parts: Mapping[Modality, frozenset[Modality]], faults: Faults) -> None:
    for fields in parts.values():
        if not any(fields & example.parts.keys() for example in train.examples):
            faults.add("modalities that the data lack", "train.jsonl", f"no example has {' or '.join(sorted(fields))}")


def _check_repeats(split: Split, faults: Faults, *, several: bool) -> None:
    """Examples of the same media; with ``several`` they may have different targets."""
    alike: dict[str, Example] = {}
    equal: dict[str, Example] = {}
    for example in split.examples:
        content, where = _content(example), f"{split.name}.jsonl, {example.name()}"
        first = alike.setdefault(content, example)
        twin = equal.setdefault(json.dumps([content, example.target]), example)
        if twin is not example:
            faults.add("examples listed twice", where, f"as {twin.name()}")
        elif first is not example and not several:
            faults.add("examples that contradict each other", where, f"another target than {first.name()}")


def _check_duplicates(train: Split, val: Split, faults: Faults) -> None:
    """What is learned and measured as well: whole examples, and files beside another text or another file."""
    known = {_content(example): example for example in train.examples}
    files = {digest: example for example in train.examples for digest in _files(train, example).values()}
    for example in val.examples:
        where = f"val.jsonl, {example.name()}"
        if (twin := known.get(_content(example))) is not None:
            faults.add("duplicates between train and val", where, f"as train.jsonl, {twin.name()}")
            continue
        for part, digest in _files(val, example).items():
            if (twin := files.get(digest)) is not None:
                faults.add("media in both train and val", where, f"{part} as in train.jsonl, {twin.name()}")


def _content(example: Example) -> str:
    return json.dumps(dict(example.digests), sort_keys=True)


def _files(split: Split, example: Example) -> dict[Modality, str]:
    """Digests of the parts that are files."""
    return {part: digest for part, digest in example.digests.items() if part not in split.inline}
