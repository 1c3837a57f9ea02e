"""Brings an index up to date with its folder: what is new or changed is looked at, all else is left alone."""

import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from app.search.index import FolderIndex, IndexFault, Known
from app.search.moments import Annotator, Moment, kind_of
from models.media.errors import MediaError, MediaTooLarge
from models.media.limits import MediaLimits
from models.media.sniff import HEAD


@dataclass(slots=True)
class Update:
    """What became of the folder's files; ``skipped`` holds those that could not be used, each with the reason."""

    added: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def photos_and_videos(folder: Path) -> list[Path]:
    """The files below a folder that are photos or videos by content or by name, in order; hidden ones are left out."""
    return [path for path in _files(folder) if _is_medium(path)]


def update(
    index: FolderIndex,
    folder: Path,
    files: list[Path],
    annotator: Annotator,
    limits: MediaLimits,
    advance: Callable[[str], None],
    *,
    may_empty: bool = False,
) -> Update:
    """Look at ``files`` of ``folder`` and forget those that are no longer there; ``advance(path)`` after each.

    A file counts as unchanged if size and time of modification are what they were, or else if its content is.

    Raises:
        IndexFault: there are no files any more, which is how a disk looks that is not mounted; unless ``may_empty``.
    """
    if not files and not may_empty and (known := len(index.paths())):
        raise IndexFault(
            f"{folder} has no photos or videos, and {index.path} has {known} of it, which were left as they are. Is it "
            "mounted, and can you read it? If it is meant to be empty, give --allow-empty."
        )
    done = Update()
    here = set()
    for file in files:
        path = file.relative_to(folder).as_posix()
        try:
            if _take(index, path, file, annotator, limits):
                done.added += 1
            else:
                done.unchanged += 1
            here.add(path)
        except (MediaError, OSError) as error:
            done.skipped[path] = str(error)
        advance(path)
    gone = index.paths() - here
    index.remove(gone)
    done.removed = len(gone)
    return done


def _take(index: FolderIndex, path: str, file: Path, annotator: Annotator, limits: MediaLimits) -> bool:
    """Whether the file was new or changed."""
    status = file.stat()
    before = index.known(path)
    if before is not None and (before.size, before.modified) == (status.st_size, status.st_mtime_ns):
        return False
    data = _read(file, limits)
    known = Known(status.st_size, status.st_mtime_ns, hashlib.sha256(data).hexdigest())
    if index.copy(path, known):
        return before is None or before.sha256 != known.sha256
    index.put(path, known, list(_moments(data, annotator, limits)))
    return True


def _moments(data: bytes, annotator: Annotator, limits: MediaLimits) -> Iterator[Moment]:
    for seconds, picture in annotator.pictures(data, limits):
        yield annotator.moment(seconds, picture, [question.answer() for question in annotator.questions(picture)])


def _read(file: Path, limits: MediaLimits) -> bytes:
    with file.open("rb") as opened:
        head = opened.read(HEAD)
        kind = kind_of(head)
        most = limits.image_bytes if kind == "image" else limits.video_bytes
        data = head + opened.read(max(most + 1 - len(head), 0))
    if len(data) > most:
        raise MediaTooLarge(
            kind, f"The file has more than {most} bytes.", "Compress it, or raise the limit.", f"{most} bytes"
        )
    return data


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _is_medium(path: Path) -> bool:
    """Also what only its name makes one: a file that claims to be a photo and is not is worth a word."""
    guessed, _ = mimetypes.guess_type(path.name)
    if guessed is not None and guessed.startswith(("image/", "video/")):
        return True
    try:
        with path.open("rb") as opened:
            kind_of(opened.read(HEAD))
    except (MediaError, OSError):
        return False
    return True
