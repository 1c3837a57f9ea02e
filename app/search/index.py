"""A folder's index: one SQLite file that holds what was seen of every photo and video, and no code to be run.

Vectors are kept in half precision and compared with all at once: exact, and for 18,000 moments less than
a tenth of a second. An index may be copied, mailed and read on another machine.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import numpy as np

from app.search.moments import Moment, Vector

P = ParamSpec("P")
T = TypeVar("T")

_FORMAT = "fusionrnn-index-1"
_LOCK_SECONDS = 5.0
_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE files (
        id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, size INTEGER NOT NULL, modified INTEGER NOT NULL,
        sha256 TEXT NOT NULL
    )""",
    "CREATE INDEX files_by_content ON files (sha256)",
    """CREATE TABLE moments (
        id INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files ON DELETE CASCADE, seconds REAL,
        vector BLOB NOT NULL, captions TEXT NOT NULL, thumbnail BLOB NOT NULL
    )""",
    "CREATE INDEX moments_by_file ON moments (file)",
)


class IndexFault(ValueError):
    """An index that cannot be read or written, or is not for this checkpoint; the message names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Known:
    """A file as it was when it was seen: ``size`` in bytes, ``modified`` in nanoseconds, and its content's hash."""

    size: int
    modified: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A moment that was found, ``path`` relative to the folder; ``score`` is its cosine with the query, -1..1."""

    path: str
    seconds: float | None
    score: float
    captions: dict[str, str]
    thumbnail: bytes


def _told(method: "Callable[Concatenate[FolderIndex, P], T]") -> "Callable[Concatenate[FolderIndex, P], T]":
    """A method whose failures, such as a full disk, are the index's."""

    @wraps(method)
    def guarded(self: "FolderIndex", /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, *args, **kwargs)
        except sqlite3.Error as error:
            said = f"{self.path} cannot be read or written: {error}."
            raise IndexFault(f"{said} What it has stays: mend that, and run the same command again.") from error

    return guarded


class FolderIndex:
    """An open index; a context manager. Every change is on disk when the method that makes it returns.

    All methods raise an IndexFault where the file cannot be read or written.

    Args:
        model: the checkpoint whose space the vectors lie in; an index of another one is refused.
        folder: given to write: an index of this folder, new where there is none; one of another folder is refused.
        captioner: the checkpoint whose captions are written; an index with those of another one is refused.

    Raises:
        IndexFault: there is none, it is of another model or folder, or the file is something else.
    """

    def __init__(self, path: Path, *, model: str, size: int, folder: Path | None = None, captioner: str = "") -> None:
        if folder is None and not path.is_file():
            raise IndexFault(f"{path} does not exist: make it with fusionrnn index FOLDER --out {path}")
        self.path, self.size = path, size
        try:
            self._database = sqlite3.connect(path, timeout=_LOCK_SECONDS)
        except sqlite3.Error as error:
            raise IndexFault(f"{path} cannot be opened: {error}") from error
        try:
            if folder is not None:
                self._make({"format": _FORMAT, "model": model, "captioner": captioner, "folder": ""})
                self._check("captioner", captioner, "whose captions are not those")
            self._check("model", model, "whose vectors mean nothing to the network")
            if folder is not None:
                self._claim(folder)
            self._database.execute("PRAGMA foreign_keys = ON")
        except sqlite3.Error as error:
            self._database.close()
            raise IndexFault(f"{path} is not an index, or in use by another process: {error}") from error
        except IndexFault:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    @property
    @_told
    def folder(self) -> Path:
        """The folder that was indexed."""
        return Path(self._meta("folder"))

    @_told
    def known(self, path: str) -> Known | None:
        """What is known of a file, None where it is new."""
        row = self._database.execute("SELECT size, modified, sha256 FROM files WHERE path = ?", (path,)).fetchone()
        return None if row is None else Known(*row)

    @_told
    def paths(self) -> set[str]:
        """Every file in the index."""
        return {path for (path,) in self._database.execute("SELECT path FROM files")}

    @_told
    def put(self, path: str, known: Known, moments: Iterable[Moment]) -> None:
        """Take in a file in place of what was known of it."""
        with self._database:
            file = self._file(path, known)
            self._database.executemany(
                "INSERT INTO moments (file, seconds, vector, captions, thumbnail) VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        file,
                        moment.seconds,
                        moment.vector.astype("<f2").tobytes(),
                        json.dumps(moment.captions, ensure_ascii=False),
                        moment.thumbnail,
                    )
                    for moment in moments
                ],
            )

    @_told
    def copy(self, path: str, known: Known) -> bool:
        """Take in a file from another one with the same content; False where there is none."""
        with self._database:
            # From here on, or another process may put something else in the place of what is copied.
            self._database.execute("BEGIN IMMEDIATE")
            row = self._database.execute("SELECT id FROM files WHERE sha256 = ?", (known.sha256,)).fetchone()
            if row is None:
                return False
            kept = self._database.execute(
                "SELECT seconds, vector, captions, thumbnail FROM moments WHERE file = ? ORDER BY id", row
            ).fetchall()
            file = self._file(path, known)
            self._database.executemany(
                "INSERT INTO moments (file, seconds, vector, captions, thumbnail) VALUES (?, ?, ?, ?, ?)",
                [(file, *moment) for moment in kept],
            )
        return True

    @_told
    def remove(self, paths: Iterable[str]) -> None:
        """Forget files."""
        with self._database:
            self._database.executemany("DELETE FROM files WHERE path = ?", [(path,) for path in paths])

    @_told
    def __len__(self) -> int:
        """How many moments there are."""
        return int(self._database.execute("SELECT count(*) FROM moments").fetchone()[0])

    def search(self, query: Vector, limit: int, *, apart: float = 5.0) -> list[Hit]:
        """The ``limit`` moments nearest to a vector of length 1, best first, those of one video ``apart`` seconds.

        Raises:
            IndexFault: the file is damaged.
        """
        try:
            # All of it from one state of the file: another process may forget what was found, before it is shown.
            with self._database:
                self._database.execute("BEGIN")
                return self._nearest(query, limit, apart)
        except (sqlite3.Error, ValueError) as error:
            raise IndexFault(f"{self.path} is damaged ({error}): make it anew") from error

    def _nearest(self, query: Vector, limit: int, apart: float) -> list[Hit]:
        rows = self._database.execute("SELECT id, file, seconds, vector FROM moments ORDER BY id").fetchall()
        if not rows:
            return []
        vectors = np.frombuffer(b"".join(vector for *_, vector in rows), "<f2").reshape(len(rows), self.size)
        scores = vectors.astype(np.float32) @ query
        chosen = _spread(scores.argsort()[::-1].tolist(), [(file, at) for _, file, at, _ in rows], limit, apart)
        return [self._hit(rows[row][0], float(scores[row])) for row in chosen]

    def _hit(self, moment: int, score: float) -> Hit:
        path, seconds, captions, thumbnail = self._database.execute(
            "SELECT path, seconds, captions, thumbnail FROM moments JOIN files ON files.id = file WHERE moments.id = ?",
            (moment,),
        ).fetchone()
        return Hit(path, seconds, score, json.loads(captions), thumbnail)

    def _file(self, path: str, known: Known) -> int:
        self._database.execute("DELETE FROM files WHERE path = ?", (path,))
        inserted = self._database.execute(
            "INSERT INTO files (path, size, modified, sha256) VALUES (?, ?, ?, ?)",
            (path, known.size, known.modified, known.sha256),
        )
        assert inserted.lastrowid is not None
        return inserted.lastrowid

    def _make(self, meta: dict[str, str]) -> None:
        """Tables, where there are none yet."""
        # All or nothing, so that it can be cut short anywhere, and waiting for another process that makes them.
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            if not self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _SCHEMA:
                    self._database.execute(statement)
                self._database.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())

    def _claim(self, folder: Path) -> None:
        if not is_utf8(str(folder)):
            raise IndexFault(f"{folder} has a name that is not UTF-8: rename it")
        if (made := self._meta("folder")) not in ("", str(folder)):
            raise IndexFault(
                f"{self.path} is of {made}, and would lose all that it has of that folder: give another --out, or "
                "delete it"
            )
        with self._database:
            self._database.execute("UPDATE meta SET value = ? WHERE key = 'folder'", (str(folder),))

    def _check(self, key: str, wanted: str, which: str) -> None:
        if self._meta("format") != _FORMAT:
            raise IndexFault(f"{self.path} is not an index of this version: make it anew")
        if (made := self._meta(key)) != wanted:
            said = f"{self.path} was made with {made or 'no captioner'}, {which} of {wanted or 'none'}"
            raise IndexFault(f"{said}: delete it and index the folder again, or choose that checkpoint")

    def _meta(self, key: str) -> str:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return "" if row is None else str(row[0])


def is_utf8(name: str) -> bool:
    """Whether an index can hold the name: what is not Unicode comes from the system as half a surrogate pair."""
    return not any("\ud800" <= sign <= "\udfff" for sign in name)


def _spread(ranked: Sequence[int], places: Sequence[tuple[int, float | None]], limit: int, apart: float) -> list[int]:
    """The first ``limit`` of ``ranked``, leaving out what lies too near in time to a better one of the same file."""
    taken: dict[int, list[float]] = {}
    chosen: list[int] = []
    for row in ranked:
        if len(chosen) == limit:
            break
        file, seconds = places[row]
        at = seconds or 0.0
        if all(abs(at - other) >= apart for other in taken.get(file, ())):
            taken.setdefault(file, []).append(at)
            chosen.append(row)
    return chosen
