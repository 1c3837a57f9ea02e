"""Files that are written whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to in the block, which takes its place at the end, or is gone where that fails.

    Whoever reads ``path`` meanwhile, or after a kill, finds all of the old one or all of the new one.
    """
    # All of the name, so that it is nobody else's, and not that of a path which ends so itself.
    written = path.with_name(f"{path.name}.tmp")
    try:
        yield written
        written.replace(path)
    finally:
        with suppress(OSError):
            written.unlink(missing_ok=True)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, in UTF-8, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as written:
        written.write_text(text, encoding="utf-8")
