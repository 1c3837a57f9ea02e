"""Brings an index up to date with its folder: what is new or changed is looked at, all else is left alone."""

import hashlib
import mimetypes
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath

from app.search.index import FolderIndex, IndexFault, Known, is_utf8
from app.search.moments import Annotator, Moment, Picture, kind_of
from models.media.errors import MediaError, MediaTooLarge
from models.media.limits import MediaLimits
from models.media.sniff import HEAD

_TOGETHER = 8
"""Pictures that are looked at in one run of a network."""


@dataclass(slots=True)
class Update:
    """What became of the folder's files; ``skipped`` holds those that could not be used, each with the reason."""

    added: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Listing:
    """Photos and videos below a folder, in order; ``unread`` has what could not be looked at, each with the reason."""

    files: list[Path] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)

    def covers(self, path: str) -> bool:
        """Whether it says anything about a path below the folder: nothing is known of what lies in ``unread``."""
        return not any(PurePosixPath(path).is_relative_to(lost) for lost in self.unread)


def photos_and_videos(folder: Path) -> Listing:
    """What is a photo or a video by content or by name; hidden files and folders are left out."""
    listing = Listing()
    listing.files += [path for path in _files(folder, listing.unread) if _is_medium(path)]
    return listing


def update(
    index: FolderIndex,
    folder: Path,
    listing: Listing,
    annotator: Annotator,
    limits: MediaLimits,
    advance: Callable[[str], None],
    *,
    may_empty: bool = False,
) -> Update:
    """Look at what is listed of ``folder`` and forget what is no longer there; ``advance(path)`` after each file.

    A file counts as unchanged if size and time of modification are what they were, or else if its content is. One that
    cannot be read now, or lies in a folder that cannot, is remembered as it was. So is what vanishes meanwhile, as all
    does when a disk is unplugged: the next listing tells whether it is gone.

    Raises:
        IndexFault: there are no files any more, which is how a disk looks that is not mounted; unless ``may_empty``.
    """
    known = index.paths()
    if not listing.files and not may_empty and known:
        raise IndexFault(
            f"{folder} has no photos or videos, and {index.path} has {len(known)} of it, which were left as they are. "
            "Is it mounted, and can you read it? If it is meant to be empty, give --allow-empty."
        )
    done = Update(skipped=dict(listing.unread))
    here = set()
    album = _Album(index, annotator, limits)
    for file in listing.files:
        path = file.relative_to(folder).as_posix()
        try:
            if album.take(path, file):
                done.added += 1
            else:
                done.unchanged += 1
            here.add(path)
        except MediaError as error:
            done.skipped[path] = str(error)
        except OSError as error:
            done.skipped[path] = str(error)
            here.add(path)
        advance(path)
    album.finish()
    # Not of what is there by now: the listing may be older than a file that another process has taken in meanwhile.
    gone = {path for path in known - here if listing.covers(path)}
    index.remove(gone)
    done.removed = len(gone)
    return done


class _Album:
    """Takes files into an index, several pictures at a time: a network's runs cost less together than one by one."""

    def __init__(self, index: FolderIndex, annotator: Annotator, limits: MediaLimits) -> None:
        self._index, self._annotator, self._limits = index, annotator, limits
        self._photos: dict[str, tuple[Known, Picture]] = {}

    def take(self, path: str, file: Path) -> bool:
        """Whether the file was new or changed; a photo may have to wait for others, or for ``finish``."""
        status = file.stat()
        before = self._index.known(path)
        if before is not None and (before.size, before.modified) == (status.st_size, status.st_mtime_ns):
            return False
        data = _read(file, self._limits)
        known = Known(status.st_size, status.st_mtime_ns, hashlib.sha256(data).hexdigest())
        if any(known.sha256 == waiting.sha256 for waiting, _ in self._photos.values()):
            self.finish()
        if self._index.copy(path, known):
            return before is None or before.sha256 != known.sha256
        pictures = self._annotator.pictures(data, self._limits)
        if kind_of(data) == "image":
            ((_, picture),) = pictures
            self._photos[path] = known, picture
            if len(self._photos) == _TOGETHER:
                self.finish()
        else:
            moments: list[Moment] = []
            while some := list(islice(pictures, _TOGETHER)):
                moments += self._annotator.moments(some)
            self._index.put(path, known, moments)
        return True

    def finish(self) -> None:
        """Look at the photos that wait."""
        moments = self._annotator.moments([(None, picture) for _, picture in self._photos.values()])
        for (path, (known, _)), moment in zip(self._photos.items(), moments, strict=True):
            self._index.put(path, known, [moment])
        self._photos.clear()


def _read(file: Path, limits: MediaLimits) -> bytes:
    with file.open("rb") as opened:
        head = opened.read(HEAD)
        kind = kind_of(head)
        most = limits.image_bytes if kind == "image" else limits.video_bytes
        # Not after it was read, which every run would do again.
        size = os.fstat(opened.fileno()).st_size
        if size > most:
            remedy = f"Compress it, or raise FUSIONRNN_LIMITS__{kind.upper()}_BYTES."
            raise MediaTooLarge(kind, f"The file has more than {most} bytes.", remedy, f"{most} bytes")
        return head + opened.read(size - len(head))


def _files(folder: Path, unread: dict[str, str]) -> Iterator[Path]:
    def lose(path: Path, reason: str) -> None:
        unread[os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")] = reason

    for root, folders, names in os.walk(folder, onerror=lambda error: lose(Path(error.filename), str(error))):
        for some in (folders, names):
            for name in [name for name in some if not is_utf8(name)]:
                some.remove(name)
                lose(Path(root, name), "Its name is not UTF-8: rename it.")
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if Path(root, name).is_symlink()]:
            folders.remove(name)
            lose(Path(root, name), "It is a link to a folder, and is not followed: index that folder by itself.")
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _is_medium(path: Path) -> bool:
    """Also what only its name makes one: a file that claims to be a photo and is not is worth a word."""
    with suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            return False
    guessed, _ = mimetypes.guess_type(path.name)
    if guessed is not None and guessed.startswith(("image/", "video/")):
        return True
    try:
        with path.open("rb") as opened:
            kind_of(opened.read(HEAD))
    except (MediaError, OSError):
        return False
    return True
