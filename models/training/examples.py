"""The examples of one split: a manifest's lines with their media by part and the target that is learned."""

import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.features import Modality
from models.features.features import Sources
from models.training.manifest import DataError, read_manifest
from models.training.report import Faults

_SHOWN = 100
"""Most characters of a file's name in a message."""

_LONGEST_NAME = 255
"""Characters of a text that may be the name of a file."""

_BLOCK = 2**20
"""Bytes of a file that are read at once where it need not be held as a whole."""


@dataclass(frozen=True, slots=True)
class Example:
    """One line of a manifest. ``parts`` are paths relative to the data folder, or texts as they stand."""

    line: int
    parts: Mapping[Modality, tuple[str, ...]]
    target: Any
    digests: Mapping[Modality, str]
    """SHA-256 of the content of each part."""

    files: tuple[str, ...]
    """Those of the ``parts`` that are paths."""

    def name(self) -> str:
        """How a message calls it."""
        return f"line {self.line}" + (f" ({', '.join(self.files[:3])})" if self.files else "")


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

        Raises:
            DataError: a file has gone, or cannot be read any more.
        """
        posted = {part for name, parts in modalities.items() for part in ([name] if name in example.parts else parts)}
        return {
            part: [item if part in self.inline else self._read(example, item) for item in items]
            for part, items in example.parts.items()
            if part in posted
        }

    def _read(self, example: Example, item: str) -> bytes:
        try:
            return (self.folder / item).read_bytes()
        except OSError as error:
            raise DataError(
                f"{self.name}.jsonl, line {example.line}: {_short(item)} could be read before, and now cannot "
                f"({error.strerror}): put the file back, or remove the line"
            ) from error


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
        files = tuple(item for part, items in found.items() if part not in inline for item in items)
        missing = [item for item in files if not _is_file(folder / item)]
        if missing:
            faults.add("missing files", where, ", ".join(_short(item) for item in missing))
            continue
        for part in inline & found.keys():
            if named := [item for item in found[part] if _names_file(folder, item)]:
                faults.add("names of files in place of texts", where, f"'{part}' is {', '.join(named)}")
        try:
            digests = {part: _digest(folder, items, inline=part in inline) for part, items in found.items()}
        except OSError as error:
            faults.add(
                "unreadable media", f"{where} ({', '.join(_short(item) for item in files)})", str(error.strerror)
            )
            continue
        examples.append(Example(line, found, target, digests, files))
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


def _names_file(folder: Path, text: str) -> bool:
    """Whether a text is the path of a file below the folder, where it is the file's content that was to be read."""
    if len(text) > _LONGEST_NAME or "\n" in text:
        return False
    return _is_file(folder / text) and (folder / text).resolve().is_relative_to(folder.resolve())


def _short(name: str) -> str:
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}... ({len(name)} characters)"


def _digest(folder: Path, items: tuple[str, ...], *, inline: bool) -> str:
    digest = hashlib.sha256()
    for item in items:
        if inline:
            data = item.encode()
            digest.update(len(data).to_bytes(8, "little") + data)
            continue
        with (folder / item).open("rb") as file:
            digest.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()
