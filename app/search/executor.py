"""The way from the event loop to the store of collections, which blocks and knows one thread."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from app.errors import ServiceError, StorageFailed, Unavailable
from app.search.collections import Collections, is_unreachable
from app.settings import Settings

T = TypeVar("T")
_RETRY = 5
_MOST = 64
"""Calls that may wait for the store; each walks through a collection at worst."""


class CollectionsExecutor:
    """The store and the one thread that may use it."""

    def __init__(self, settings: Settings) -> None:
        key = settings.collections_key
        self._store = Collections(
            settings.collections_dir,
            url=settings.collections_url,
            key=None if key is None else key.get_secret_value(),
            most=settings.collections_most,
            most_moments=settings.collections_moments,
        )
        self._thread = ThreadPoolExecutor(1, "collections")
        self._waiting = 0

    async def ask(self, work: Callable[[Collections], T], *, accepted: bool = False) -> T:
        """What ``work`` makes of the store, beside the event loop; what was ``accepted`` is not turned away.

        Raises:
            Unavailable: too many wait, the store is in use by another process, or its server does not answer.
            StorageFailed: the embedded store cannot be written or read.
        """
        if self._waiting >= _MOST and not accepted:
            raise Unavailable(f"{self._waiting} calls are already waiting for the store of collections.", _RETRY)
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._thread.submit(self._work, work))
        except Exception as error:
            if isinstance(error, ServiceError) or not is_unreachable(error):
                raise
            raise Unavailable(f"The server of the collections failed: {error}", _RETRY) from error
        finally:
            self._waiting -= 1

    def _work(self, work: Callable[[Collections], T]) -> T:
        try:
            return work(self._store)
        except (sqlite3.Error, OSError) as error:
            # In memory the embedded store has what it could not write: opened again, it knows what the disk holds.
            with suppress(sqlite3.Error, OSError):
                self._store.close()
            said = f"The store of collections failed: {error}."
            remedy = "Free space on the disk of FUSIONRNN_COLLECTIONS_DIR, or have it be written, and send it again."
            raise StorageFailed(said, remedy) from error

    def close(self) -> None:
        """Wait for what is being written, and give the store free."""
        self._thread.submit(self._store.close).result()
        self._thread.shutdown()
