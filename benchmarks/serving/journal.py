"""Measurements as JSON lines: what is there already is not measured again, so an interrupted run goes on."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """One file; each line holds a measurement's ``key`` and what came of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._found: dict[str, Record] = {}
        if path.is_file():
            *lines, rest = path.read_text(encoding="utf-8").split("\n")
            for line in lines:
                entry = json.loads(line)
                self._found[_text(entry["key"])] = entry
            if rest:
                # A run that was killed left half a line.
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def get(self, key: Record, measure: Callable[[], Record]) -> Record:
        """What was measured under ``key``, now or in an earlier run."""
        name = _text(key)
        if name not in self._found:
            self._found[name] = {"key": key, "result": measure()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(self._found[name]) + "\n")
        result: Record = self._found[name]["result"]
        return result

    def all(self, **wanted: Any) -> Iterator[tuple[Record, Record]]:
        """Keys and results of every measurement whose key has all that is ``wanted``, in their order."""
        for entry in self._found.values():
            if wanted.items() <= entry["key"].items():
                yield entry["key"], entry["result"]


def _text(key: Record) -> str:
    return json.dumps(key, sort_keys=True)
