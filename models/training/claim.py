"""The folder of a run: whose it is, and where its checkpoint lies."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.files import write_whole
from models.training.examples import Split
from models.training.experiment import Experiment
from models.training.manifest import DataError
from models.training.nested import flat

CHECKPOINT = "checkpoint"
"""The folder in a run's folder that is served."""

_RECORD = "experiment.json"
_WRITTEN = (_RECORD, "resume.pt", "log.jsonl", "curves.png", CHECKPOINT)
"""What a run writes into its folder, whoever else's stands there."""
_UNTRAINED = frozenset({"version", "description", "terms", "defaults"})
"""Keys of an experiment that may change after training, which does not depend on them."""


@contextmanager
def claim(experiment: Experiment, start: Sequence[str], splits: Iterable[Split], out: Path) -> Iterator[None]:
    """Make ``out`` this run's folder: what another experiment, or other data, began there cannot be gone on with.

    In the block no other process can claim it.

    Args:
        start: what the weights go on from.

    Raises:
        DataError: it is another's; the message says what differs.
    """
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        _record(experiment, start, splits, out)
        yield


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Two runs would write the same files. The lock is the system's, which ends it with the process, even by a kill."""
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{out} is in use by another run: wait until that has ended, or give another --out"
            ) from error
        except OSError:
            pass  # A file system that knows no locks.
        yield
    finally:
        os.close(folder)


def _record(experiment: Experiment, start: Sequence[str], splits: Iterable[Split], out: Path) -> None:
    described = experiment.model_dump(mode="json") | ({"start": list(start)} if start else {})
    mine = {"experiment": described, "data": _digest(splits)}
    record = out / _RECORD
    before = _read(record)
    if before is None and (strange := [name for name in _WRITTEN if (out / name).exists()]):
        raise DataError(f"{out} holds {', '.join(strange)}, and no run of an experiment: give another --out")
    if before is not None and (out / "resume.pt").exists() and (odd := list(_differences(before, mine))):
        raise DataError(
            f"{out} holds a run of another experiment, or of other data: give another --out, or delete the folder.\n"
            + "\n".join(f"  {difference}" for difference in odd)
        )
    # Half of it would not be known for ours.
    write_whole(record, json.dumps(mine, indent=2) + "\n")


def _digest(splits: Iterable[Split]) -> str:
    digest = hashlib.sha256()
    for split in splits:
        digest.update((split.folder / f"{split.name}.jsonl").read_bytes())
        # The media as well: files of the same names may hold something else by now.
        digest.update(json.dumps([dict(example.digests) for example in split.examples]).encode())
    return digest.hexdigest()


def _read(record: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.keys() == {"experiment", "data"} else None


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What training depends on and is not as it was, in words."""
    there, here = (dict(flat(value["experiment"], ".")) for value in (before, now))
    # What a run goes on from also says what its parts are.
    keys = ["start"] if there.get("start") != here.get("start") else sorted(there.keys() | here.keys())
    for key in keys:
        if there.get(key) != here.get(key) and key.partition(".")[0] not in _UNTRAINED:
            yield f"{key}: {_said(there, key)} there, {_said(here, key)} here"
    if before["data"] != now["data"]:
        yield "the data: another train.jsonl or val.jsonl, or another file that one of them names"


def _said(table: Mapping[str, Any], key: str) -> str:
    return json.dumps(table[key], ensure_ascii=False) if key in table else "none"
