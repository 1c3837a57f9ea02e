"""What /v1/collections answers, and what a search there may ask for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field

from app.search.items import Collection, Found, Item
from models.options import Options

if TYPE_CHECKING:
    from app.search.moments import Moment

PAGE = 100
"""Most items of one answer."""


class SearchOptions(Options):
    """What a search may ask for besides its text or photo."""

    limit: int = Field(10, ge=1, le=PAGE, description="Most items")


class CollectionCard(BaseModel):
    """A collection."""

    id: str
    object: Literal["collection"] = "collection"
    items: int
    moments: int = Field(description="Photos, and seconds of videos")
    model: str = Field(description="Name, version and digest of the checkpoint whose space its vectors lie in")

    @classmethod
    def of(cls, collection: Collection, **more: Any) -> Self:
        """The card of a collection, with the fields that a subclass adds."""
        return cls(
            id=collection.name, items=collection.items, moments=collection.moments, model=collection.model, **more
        )


class CollectionList(BaseModel):
    """Every collection."""

    object: Literal["list"] = "list"
    data: list[CollectionCard]


class ItemCard(BaseModel):
    """An item, without what was seen of it."""

    id: str
    object: Literal["item"] = "item"
    kind: Literal["image", "video"]
    count: int = Field(description="How many moments it has")
    sha256: str = Field(description="Of the bytes that were posted")

    @classmethod
    def of(cls, item: Item, **more: Any) -> Self:
        """The card of an item, with the fields that a subclass adds."""
        return cls(id=item.id, kind=item.kind, count=item.moments, sha256=item.sha256, **more)


class ItemList(CollectionCard):
    """A collection and some of its items; ``next`` is the ``after`` of the following page, null on the last."""

    data: list[ItemCard]
    next: str | None = None


class MomentCard(BaseModel):
    """A photo, or a second of a video."""

    time: float | None = Field(None, description="Seconds into the video; null for a photo")
    captions: dict[str, str] = Field(description="By language")
    notices: list[str] = Field([], description="What was noticed about it, such as unfamiliar")

    @classmethod
    def of(cls, found: "Found | Moment", **more: Any) -> Self:
        """The card of a moment, with the fields that a subclass adds."""
        return cls(time=found.seconds, captions=found.captions, notices=list(found.notices), **more)


class ItemDetail(ItemCard):
    """An item and what was seen of it."""

    moments: list[MomentCard]


class FoundMoment(MomentCard):
    """A moment that was found."""

    score: float = Field(ge=-1, le=1, description="Cosine with the query")


class FoundItem(BaseModel):
    """An item that was found, with up to three of its moments, nearest first."""

    id: str
    kind: Literal["image", "video"]
    score: float = Field(ge=-1, le=1, description="Of its nearest moment")
    moments: list[FoundMoment]

    @classmethod
    def of(cls, item: Item, found: Sequence[Found]) -> Self:
        """The card of an item and the moments, at least one, that it was found by."""
        moments = [FoundMoment.of(moment, score=_cosine(moment.score)) for moment in found]
        return cls(id=item.id, kind=item.kind, score=moments[0].score, moments=moments)


class SearchAnswer(BaseModel):
    """Items, nearest first."""

    object: Literal["list"] = "list"
    data: list[FoundItem]
    notices: dict[str, list[str]] = Field({}, description="What was noticed about what was asked, by modality")


def _cosine(score: float | None) -> float:
    """Rounded, which may lift the cosine of equal vectors no more above 1."""
    assert score is not None
    return min(max(round(score, 6), -1.0), 1.0)
