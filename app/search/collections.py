"""Named collections of photos and videos in Qdrant: embedded, in a folder of this process, or on a Qdrant server.

Each moment is a point. A collection is made by its first item, and knows the checkpoint whose space its vectors lie in.
All calls block, and belong in one thread: the embedded form may be used by no more.
"""

import gc
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from app.errors import Conflict, ServiceError, Unavailable
from app.search.embedded import open_embedded
from app.search.items import Collection, Found, Item, found_in, item_in, payload_for, payload_of

if TYPE_CHECKING:
    from qdrant_client import QdrantClient, models

    from app.search.moments import Moment, Vector

_PREFIX = "fusionrnn."
_PER_ITEM = 3
_BLOCK = 256
"""Moments of an item that are asked about at a time."""
_FORGOTTEN = 2000
"""Points that the embedded store may go on holding after they were deleted, or as many as it has."""
_TIMEOUT = 10
_RETRY = 5


class NoSuchItem(ServiceError):
    """No such collection, or no such item in it."""

    status, kind, title = 404, "unknown-item", "Unknown collection or item"


class Collections:
    """Opened at first use, so that a service which nobody asks for collections touches no folder.

    Args:
        folder: where the embedded store lies; made where it is missing.
        url: of a Qdrant server, used instead of the folder; ``key`` is its API key.
        most: collections.
        most_moments: in one collection.
    """

    # Qdrant's points are numbered or have a UUID; this one makes the same of the same item and moment.
    _NAMESPACE: ClassVar[uuid.UUID] = uuid.UUID("8f0cf9c1-6a4e-4d5c-9b39-0e3c8e9c2f55")

    def __init__(
        self, folder: Path, *, url: str | None = None, key: str | None = None, most: int, most_moments: int
    ) -> None:
        self._folder, self._url, self._key = folder, url, key
        self._most, self._most_moments = most, most_moments
        self._opened: QdrantClient | None = None
        # Only of the embedded store, which nobody else changes, and which counts what a filter lets pass one by one.
        self._items: dict[str, int] = {}
        self._forgotten = 0

    def close(self) -> None:
        """Give the folder free."""
        opened, self._opened, self._forgotten = self._opened, None, 0
        if opened is not None:
            opened.close()

    def all(self) -> list[Collection]:
        """Every collection, by name."""
        return [self._describe(name) for name in self._names()]

    def require(self, name: str) -> None:
        """Return where there is such a collection.

        Raises:
            NoSuchItem: there is none.
        """
        if not self._client.collection_exists(_PREFIX + name):
            known = ", ".join(self._names()) or "none at all"
            raise NoSuchItem(f"There is no collection '{name}'.", f"There are {known}; PUT an item to make it.")

    def describe(self, name: str) -> Collection:
        """One collection.

        Raises:
            NoSuchItem: there is none.
        """
        self.require(name)
        return self._describe(name)

    def items(self, name: str, limit: int, after: str | None) -> tuple[list[Item], str | None]:
        """Up to ``limit`` items from the place that a former call named, and the next place, None at the end.

        Raises:
            NoSuchItem: there is none.
        """
        self.require(name)
        points, following = self._client.scroll(
            _PREFIX + name, scroll_filter=_first(), limit=limit, offset=after, with_payload=True
        )
        return [item_in(payload_of(point)) for point in points], None if following is None else str(following)

    def item(self, name: str, item: str) -> tuple[Item, list[Found]]:
        """An item and its moments in order.

        Raises:
            NoSuchItem: there is no such item.
        """
        self.require(name)
        kept = self._kept(name, item).get(item)
        if kept is None:
            raise NoSuchItem(f"There is no item '{item}' in the collection '{name}'.", "PUT it first.")
        points = self._client.retrieve(
            _PREFIX + name, [self._point(item, order) for order in range(kept.moments)], with_payload=True
        )
        payloads = sorted((payload_of(point) for point in points), key=lambda payload: int(payload["order"]))
        return kept, [found_in(payload) for payload in payloads if item_in(payload) == kept]

    def holds(self, name: str, item: str, model: str, writer: str, sha256: str) -> bool:
        """Whether the item is there, whole, with this very content, so that looking at it again would change nothing.

        ``writer`` is who would caption it; where nobody would, captions that are there stay.

        Raises:
            Conflict: the collection is of another checkpoint.
        """
        with suppress(NoSuchItem):
            self.require(name)
            self._check_model(name, model)
            kept, found = self.item(name, item)
            # An interrupted upload of another video may have taken some, which only looking again brings back.
            return kept.sha256 == sha256 and writer in ("", kept.writer) and len(found) == kept.moments
        return False

    def require_room(self, name: str, item: str) -> None:
        """Return where at least one moment may be put under this id.

        Raises:
            Conflict: the collection is full, or there are too many collections.
        """
        self._check_room(name, item, 1)

    def put(self, name: str, item: Item, moments: "Sequence[Moment]", model: str) -> bool:
        """Store an item in place of what had its id; whether the id is new.

        Raises:
            Conflict: the collection is full or of another checkpoint, or there are too many collections.
        """
        from qdrant_client import models

        place = _PREFIX + name
        # First, so that what is refused leaves no empty collection behind.
        before = self._check_room(name, item.id, len(moments))
        self._make(name, len(moments[0].vector), model)
        points = [
            models.PointStruct(
                id=self._point(item.id, order), vector=moment.vector.tolist(), payload=payload_for(item, order, moment)
            )
            for order, moment in enumerate(moments)
        ]
        # The first moment says what is under the id, so it comes last: what an interrupted call leaves belongs to no
        # item, is not shown, and is overwritten or deleted by the next, or when the store is opened. In one call, of
        # which a server takes all or nothing.
        items = self._items.pop(name, None)
        self._client.upsert(place, [*points[1:], points[0]], wait=True)
        self._forget(place, self._beyond(place, item.id, len(points)))
        if items is not None:
            self._items[name] = items + (before is None)
        return before is None

    def delete(self, name: str, item: str | None = None) -> None:
        """Forget an item, or all of a collection.

        Raises:
            NoSuchItem: it is not there.
        """
        if item is None:
            self.require(name)
            self._items.pop(name, None)
            self._client.delete_collection(_PREFIX + name)
            # The embedded store leaves its file open in a cycle of objects, and until those go its space is not free.
            gc.collect()
            return
        self.item(name, item)
        items = self._items.pop(name, None)
        self._forget(_PREFIX + name, [self._point(item, 0), *self._beyond(_PREFIX + name, item, 1)])
        if items is not None:
            self._items[name] = items - 1

    def search(self, name: str, vector: "Vector", limit: int, model: str) -> list[tuple[Item, list[Found]]]:
        """The nearest items, best first, each with up to three moments by which it was found.

        Raises:
            NoSuchItem: there is no such collection.
            Conflict: it is of another checkpoint.
        """
        self.require(name)
        self._check_model(name, model)
        wanted, most = limit * _PER_ITEM, min(limit, self._count(name))
        while True:
            # Not Qdrant's own grouping, whose embedded form walks through the whole collection.
            points = self._client.query_points(
                _PREFIX + name, query=vector.tolist(), limit=wanted, with_payload=True
            ).points
            seen = self._kept(name, *{payload_of(point)["item"] for point in points})
            groups: dict[str, list[Found]] = {}
            for point in points:
                payload = payload_of(point)
                if seen.get(payload["item"]) == item_in(payload):
                    groups.setdefault(payload["item"], []).append(found_in(payload, point.score))
            if len(groups) >= most or len(points) < wanted:
                break
            wanted *= 4
        return [(seen[item], group[:_PER_ITEM]) for item, group in list(groups.items())[:limit]]

    @property
    def _client(self) -> "QdrantClient":
        if self._opened is None:
            try:
                self._opened = open_embedded(self._folder) if self._url is None else self._server(self._url)
            # Qdrant says so that another process holds the folder.
            except RuntimeError as error:
                raise Unavailable(f"The store of collections cannot be opened: {error}", _RETRY) from error
        return self._opened

    def _server(self, url: str) -> "QdrantClient":
        from qdrant_client import QdrantClient

        return QdrantClient(url=url, api_key=self._key, timeout=_TIMEOUT, check_compatibility=False)

    def _names(self) -> list[str]:
        there = (collection.name for collection in self._client.get_collections().collections)
        return sorted(name.removeprefix(_PREFIX) for name in there if name.startswith(_PREFIX))

    def _describe(self, name: str) -> Collection:
        return Collection(name, self._count(name), self._client.count(_PREFIX + name).count, self._model(name))

    def _count(self, name: str) -> int:
        """How many items there are."""
        if (items := self._items.get(name)) is None:
            items = self._client.count(_PREFIX + name, count_filter=_first()).count
            if self._url is None:
                self._items[name] = items
        return items

    def _model(self, name: str) -> str:
        return str((self._client.get_collection(_PREFIX + name).config.metadata or {}).get("model"))

    def _check_model(self, name: str, model: str) -> None:
        if (made := self._model(name)) != model:
            said = f"The collection '{name}' was made with {made}, whose vectors mean nothing to {model}."
            raise Conflict(said, "DELETE it and PUT its items again.")

    def _make(self, name: str, size: int, model: str) -> None:
        from qdrant_client import models

        if self._client.collection_exists(_PREFIX + name):
            self._check_model(name, model)
            return
        vectors = models.VectorParams(size=size, distance=models.Distance.COSINE)
        self._client.create_collection(_PREFIX + name, vectors, metadata={"model": model})
        if self._url is not None:  # the embedded form has no indexes of payload, and warns
            self._client.create_payload_index(_PREFIX + name, "order", models.PayloadSchemaType.INTEGER)

    def _check_room(self, name: str, item: str, moments: int) -> Item | None:
        """Return what is under an id, where so many moments may be put instead."""
        before, count = None, moments
        if self._client.collection_exists(_PREFIX + name):
            before = self._kept(name, item).get(item)
            count += self._client.count(_PREFIX + name).count - (before.moments if before else 0)
        elif len(self._names()) >= self._most:
            raise Conflict("There are as many collections as may be.", "DELETE one.", limit=f"{self._most} collections")
        if count > self._most_moments:
            limit = f"{self._most_moments} moments"
            said = f"With it the collection '{name}' would have {count} moments or more: photos, and seconds of videos."
            raise Conflict(said, "DELETE items, or start another collection.", limit=limit)
        return before

    def _kept(self, name: str, *items: str) -> dict[str, Item]:
        """What is under some ids, by id: the first moment of each says it."""
        if not items:
            return {}
        first = self._client.retrieve(_PREFIX + name, [self._point(item, 0) for item in items], with_payload=True)
        return {item.id: item for item in (item_in(payload_of(point)) for point in first)}

    def _beyond(self, place: str, item: str, count: int) -> "list[models.ExtendedPointId]":
        """Points of an id behind its first ``count``, from the last on: there is no gap, whenever that is cut short."""
        points: list[models.ExtendedPointId] = []
        while True:
            block = [self._point(item, order) for order in range(count, count + _BLOCK)]
            there = {str(point.id) for point in self._client.retrieve(place, block, with_payload=False)}
            points += [point for point in block if point in there]
            if not there:
                return points[::-1]
            count += _BLOCK

    def _forget(self, place: str, points: "list[models.ExtendedPointId]") -> None:
        if not points:
            return
        self._client.delete(place, points, wait=True)
        self._forgotten += len(points)
        # The embedded store only marks what is deleted, until it is opened again.
        if self._url is None and self._forgotten > _FORGOTTEN:
            there = sum(self._client.count(_PREFIX + name).count for name in self._names())
            if self._forgotten > there:
                self.close()

    def _point(self, item: str, order: int) -> str:
        return str(uuid.uuid5(self._NAMESPACE, f"{item}/{order}"))


def is_unreachable(error: Exception) -> bool:
    """Whether an error says that the Qdrant server does not answer, or answers with an error."""
    from qdrant_client.http.exceptions import ApiException

    return isinstance(error, ApiException)


def _first() -> "models.Filter":
    """Every item's first moment."""
    from qdrant_client import models

    return models.Filter(must=[models.FieldCondition(key="order", match=models.MatchValue(value=0))])
