"""What a collection holds, and how a point of Qdrant says it: every moment of an item repeats what the item is."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.search.moments import Kind, Moment


OF_ITEM = ("item", "kind", "moments", "sha256", "writer")
"""Of a point's payload, what says which item it belongs to."""


@dataclass(frozen=True, slots=True)
class Item:
    """What was put under one id: its kind, how many moments it has, the hash of its bytes, and who captioned it."""

    id: str
    kind: "Kind"
    moments: int
    sha256: str
    writer: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A moment of an item; ``score`` is its cosine with the query, -1..1, or None where nothing was asked."""

    seconds: float | None
    captions: dict[str, str]
    notices: tuple[str, ...] = ()
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Collection:
    """Counts of a collection, and the checkpoint that it belongs to."""

    name: str
    items: int
    moments: int
    model: str


def payload_of(point: Any) -> dict[str, Any]:
    """What a point was put with."""
    assert point.payload is not None
    payload: dict[str, Any] = point.payload
    return payload


def payload_for(item: Item, order: int, moment: "Moment") -> dict[str, Any]:
    """What to put with the moment that is number ``order`` of an item."""
    return {
        "item": item.id, "kind": item.kind, "moments": item.moments, "sha256": item.sha256, "writer": item.writer,
        "order": order, "seconds": moment.seconds, "captions": moment.captions, "notices": list(moment.notices),
    }  # fmt: skip


def item_in(payload: dict[str, Any]) -> Item:
    """The item that a moment belongs to."""
    return Item(payload["item"], payload["kind"], payload["moments"], payload["sha256"], payload.get("writer", ""))


def found_in(payload: dict[str, Any], score: float | None = None) -> Found:
    """The moment itself."""
    return Found(payload["seconds"], payload["captions"], tuple(payload.get("notices", ())), score)
