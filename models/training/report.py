"""What a data folder holds and what is wrong with it, said before training starts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.training.manifest import DataError

_SHOWN = 10

REMEDIES = {
    "malformed examples": "Mend these lines, or remove them.",
    "examples without a modality": "Give each line at least one of the modalities that the experiment names.",
    "examples without a required modality": "Add it to these lines, or take `required` out of [modalities.NAME].",
    "names of files in place of texts": "Put the texts themselves into the lines, or have `fusionrnn manifest` do it.",
    "more items than max_items": "Raise `max_items` of [modalities.NAME], or list fewer: a request may hold no more.",
    "missing files": "Paths are relative to the data folder: put the files there, or remove the lines.",
    "unreadable media": "Check that the files open elsewhere; convert or replace them.",
    "media out of bounds": "They could not be served either: cut or replace them, or raise `max_steps` of 'vectors'.",
    "vectors of another size": "Extract all of a modality alike: the size that most files of train.jsonl have is read.",
    "silent features": "These examples hold nothing that the encoder could read; check the media.",
    "duplicates between train and val": "Remove them from one of the two: they make the validation figures too good.",
    "media in both train and val": "Keep a medium's examples in one of the two: what is known of it is measured again.",
    "examples that contradict each other": "The same media have another target: keep the right one.",
    "examples listed twice": "Remove all but one of them: an example counts as often as it is listed.",
    "rare classes": "Three examples are the least to learn and to measure a class by: collect more, or merge classes.",
    "classes that differ in case only": "They are learned as different classes: write them alike if they are one.",
    "classes that are not measured": "Add examples of them to val.jsonl: the figures say nothing of these classes.",
    "targets that are all equal": "There is nothing to learn: check that the field holds what it should.",
    "one example to measure by": "Its figures say hardly anything: collect more, or move some over from train.jsonl.",
    "labels unseen in training": "Add training examples of these classes, or remove them from val.jsonl.",
    "features that are not finite": "Mend the arrays: NaN and infinity would spread to every weight.",
    "modalities that the data lack": "Remove [modalities.NAME] from the experiment, or add the field to the manifest.",
    "captions cut": "Their ends are not learned: shorten them where that matters.",
    "captions that lack a language": "Give every example captions in every language, or take the language out.",
    "targets of different sizes": "Give every example as many numbers as the first, or `per = 'step'` in [head].",
    "targets too alike for float32": "Subtract a constant from these targets, or give them in another unit.",
    "transcripts too long for their steps": "Mend these lines, or let the encoder give more steps a second.",
    "targets for other steps": "Give an example as many targets as the longest of its arrays has vectors.",
    "steps that do not pair": "The fusion pairs step k of all modalities: give an example's arrays equal lengths.",
    "too few classes": "Classification needs at least two different labels in train.jsonl.",
}
"""The kinds of faults, each with what to do about it."""

FATAL = frozenset(
    {
        "names of files in place of texts",
        "labels unseen in training",
        "features that are not finite",
        "modalities that the data lack",
        "captions that lack a language",
        "targets of different sizes",
        "targets too alike for float32",
        "too few classes",
    }
)
"""Faults with which training cannot start."""


@dataclass
class Faults:
    """Faults by kind, each where it was found and what it is."""

    found: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def add(self, kind: str, where: str, what: str) -> None:
        """Note a fault of one of the kinds in ``REMEDIES``."""
        assert kind in REMEDIES
        self.found.setdefault(kind, []).append((where, what))

    def lines(self, kinds: frozenset[str] | None = None) -> list[str]:
        """The faults in words: a heading a kind with its remedy, and the first ten by name."""
        lines = []
        for kind, items in self.found.items():
            if kinds is not None and kind not in kinds:
                continue
            lines.append(f"{kind}: {len(items)}. {REMEDIES[kind]}")
            lines += [f"  {where}: {what}" for where, what in items[:_SHOWN]]
            if len(items) > _SHOWN:
                lines.append(f"  and {len(items) - _SHOWN} more")
        return lines

    def stop_if_fatal(self) -> None:
        """Stop where training could not start, and measuring would say nothing.

        Raises:
            DataError: naming each fatal fault, where it is and the remedy.
        """
        if fatal := FATAL & self.found.keys():
            raise DataError("The data cannot be used.\n" + "\n".join(self.lines(frozenset(fatal))))


@dataclass(frozen=True, slots=True)
class SplitReport:
    """Figures of one split, of the examples that are used."""

    total: int
    used: int
    present: Mapping[str, int]
    """Examples that have each modality."""

    combinations: Mapping[str, int]
    steps: Mapping[str, Mapping[str, float]]
    """Steps of each modality's features: shortest, median, longest."""

    target: Mapping[str, Any]
    notices: Mapping[str, int]

    def lines(self, name: str) -> list[str]:
        """The figures in words."""
        left_out = self.total - self.used
        lines = [f"{name}: {self.used} examples" + (f" ({left_out} of {self.total} left out)" if left_out else "")]
        for modality, count in self.present.items():
            shortest, median, longest = (self.steps[modality][key] for key in ("min", "median", "max"))
            lines.append(f"  {modality}: in {count} examples, {shortest:g} to {longest:g} steps, median {median:g}")
        if len(self.combinations) > 1:
            lines.append("  together: " + ", ".join(f"{key} {count}" for key, count in self.combinations.items()))
        lines += [f"  {key}: {_said(value)}" for key, value in self.target.items()]
        lines += [f"  noticed: {key} in {count} examples" for key, count in self.notices.items()]
        return lines


@dataclass(frozen=True, slots=True)
class Report:
    """The whole report: splits by name, and faults."""

    splits: Mapping[str, SplitReport]
    faults: Faults

    def text(self) -> str:
        """For a terminal."""
        lines = [line for name, split in self.splits.items() for line in split.lines(name)]
        return "\n".join(lines + (["Faults:", *self.faults.lines()] if self.faults.found else ["No faults."]))

    def as_json(self) -> dict[str, Any]:
        """For ``report.json``."""
        return {
            "splits": {
                name: {key: getattr(split, key) for key in SplitReport.__dataclass_fields__}
                for name, split in self.splits.items()
            },
            "faults": self.faults.found,
        }


def split_report(
    total: int, lengths: Mapping[str, Sequence[int]], target: Mapping[str, Any], notices: Sequence[str]
) -> SplitReport:
    """Figures of a split from the steps [N] of each modality's features; 0 where an example lacks it."""
    names = list(lengths)
    steps = {name: np.asarray(lengths[name]) for name in names}
    used = len(steps[names[0]])
    here = {name: values[values > 0] for name, values in steps.items()}
    combinations = Counter("+".join(name for name in names if steps[name][row]) for row in range(used))
    return SplitReport(
        total=total,
        used=used,
        present={name: len(values) for name, values in here.items()},
        combinations=dict(combinations.most_common()),
        steps={name: _spread(values) for name, values in here.items()},
        target=target,
        notices=dict(Counter(notices).most_common()),
    )


def _spread(values: Any) -> dict[str, float]:
    if not len(values):
        return {"min": 0, "median": 0, "max": 0}
    return {"min": int(values.min()), "median": float(np.median(values)), "max": int(values.max())}


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        items = list(value.items())
        more = f" and {len(items) - 20} more" if len(items) > 20 else ""
        return ", ".join(f"{key} {_number(item)}" for key, item in items[:20]) + more
    return _number(value)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
