"""Qdrant in a folder of this process, as the last one that used it may have left it."""

import errno
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import Conflict
from app.log import log
from app.search.items import OF_ITEM, item_in, payload_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What another folder on the same disk would not mend."""


def open_embedded(folder: Path) -> "QdrantClient":
    """The store in ``folder``, which is made where it is missing, without what interrupted calls left.

    Raises:
        Conflict: the folder cannot be written.
        OSError: its disk is full, or fails.
        RuntimeError: another process holds it.
    """
    # Takes a second to import, which only who uses collections should pay for.
    from qdrant_client import QdrantClient

    try:
        folder.mkdir(parents=True, exist_ok=True)
        _forget_beginning(folder)
        client = QdrantClient(path=str(folder))
    except OSError as error:
        if error.errno in _OF_THE_DISK:
            raise
        said = f"The store of collections cannot be opened: {error}"
        raise Conflict(said, "Set FUSIONRNN_COLLECTIONS_DIR to a folder that can be written.") from error
    # On a full disk it can still be read.
    with suppress(sqlite3.Error, OSError):
        _tidy(client)
    return client


def _forget_beginning(folder: Path) -> None:
    """Delete what is left of a store whose making a full disk or a kill cut short: it would not open."""
    began = folder / "meta.json"
    if began.is_file() and not began.stat().st_size and not (folder / "collection").exists():
        began.unlink()


def _tidy(client: "QdrantClient") -> None:
    """Delete moments of no item, which would be counted."""
    for place in (found.name for found in client.get_collections().collections):
        count = client.count(place).count
        points, _ = client.scroll(place, limit=max(count, 1), with_payload=[*OF_ITEM, "order"])
        payloads = {str(point.id): payload_of(point) for point in points}
        items = {item_in(payload) for payload in payloads.values() if payload["order"] == 0}
        left: list[models.ExtendedPointId] = [
            point for point, payload in payloads.items() if item_in(payload) not in items
        ]
        if left:
            client.delete(place, left, wait=True)
            log.info("moments of interrupted uploads deleted", collection=place, moments=len(left))
