"""The examples of one split: a manifest's lines with their media by part and the target that is learned."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.features import Modality
from models.features.features import Sources
from models.training.manifest import read_manifest
from models.training.report import Faults

_SHOWN = 100
"""Most characters of a file's name in a message."""


@dataclass(frozen=True, slots=True)
class Example:
    """One line of a manifest. ``parts`` are paths relative to the data folder, or texts as they stand."""

    line: int
    parts: Mapping[Modality, tuple[str, ...]]
    target: Any
    digests: Mapping[Modality, str]
    """SHA-256 of the content of each part."""

    def name(self) -> str:
        """How a message calls it."""
        files = [item for part, items in self.parts.items() for item in items if part != "text"]
        return f"line {self.line}" + (f" ({', '.join(files[:3])})" if files else "")


@dataclass(frozen=True, slots=True)
class Split:
    """The usable examples of ``folder/NAME.jsonl``; ``total`` counts the others too."""

    folder: Path
    name: str
    examples: list[Example]
    total: int
    inline: frozenset[Modality]
    """Parts whose value is the medium itself rather than the path of a file."""

    def sources(self, example: Example, modalities: Mapping[Modality, Collection[Modality]]) -> Sources:
        """The example's media as they would be posted to a network of ``modalities``, each with the parts it can read.

        What can stand in for a modality is posted only where the modality itself is missing.
        """
        posted = {part for name, parts in modalities.items() for part in ([name] if name in example.parts else parts)}
        return {
            part: [item if part in self.inline else (self.folder / item).read_bytes() for item in items]
            for part, items in example.parts.items()
            if part in posted
        }


def read_split(
    folder: Path,
    name: str,
    accepts: Mapping[Modality, int],
    inline: frozenset[Modality],
    read_target: Callable[[dict[str, Any]], Any],
    faults: Faults,
) -> Split:
    """Read a split; examples that cannot be used are reported to ``faults`` and left out.

    Args:
        accepts: the fields that are read, each with how many items of it a served bundle may hold.
        read_target: gives the target of a line; raises ValueError with what is wrong with it.

    Raises:
        DataError: the manifest is missing, empty, or not JSON.
    """
    manifest = read_manifest(folder, name)
    examples = []
    for line, fields in zip(manifest.lines, manifest.examples, strict=True):
        where = f"{name}.jsonl, line {line}"
        try:
            found = {part: _items(fields[part], part) for part in sorted(accepts) if fields.get(part) not in (None, [])}
            target = read_target(fields)
        except ValueError as error:
            faults.add("malformed examples", where, str(error))
            continue
        if not found:
            faults.add("examples without a modality", where, f"none of {', '.join(sorted(accepts))}")
            continue
        if many := [part for part, items in found.items() if len(items) > accepts[part]]:
            said = ", ".join(f"{len(found[part])} of {part}, and {accepts[part]} may be served" for part in many)
            faults.add("more items than max_items", where, said)
            continue
        files = [item for part, items in found.items() if part not in inline for item in items]
        missing = [item for item in files if not _is_file(folder / item)]
        if missing:
            faults.add("missing files", where, ", ".join(_short(item) for item in missing))
            continue
        digests = {part: _digest(folder, items, inline=part in inline) for part, items in found.items()}
        examples.append(Example(line, found, target, digests))
    return Split(folder, name, examples, len(manifest.examples), inline)


def _items(value: object, part: str) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item for item in items):
        raise ValueError(f"'{part}' must be a string that is not empty, or a list of such")
    return tuple(items)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as a text, or a medium in base64, too long for the name of a file
        return False


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}... ({len(name)} characters)"


def _digest(folder: Path, items: tuple[str, ...], *, inline: bool) -> str:
    digest = hashlib.sha256()
    for item in items:
        data = item.encode() if inline else (folder / item).read_bytes()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
