"""The embedded store: what an interrupted call leaves, and what it holds of what was deleted."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.errors import Conflict
from app.search import collections
from app.search.collections import Collections, NoSuchItem
from app.search.items import Item
from app.search.moments import Moment

MODEL = "embedder 1.0.0"
PHOTO = Item("it", "image", 1, "photo", "captioner 1.0.0")
FILM = Item("it", "video", 10, "film", "captioner 1.0.0")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Collections]:
    opened = Collections(tmp_path / "store", most=10, most_moments=1000)
    yield opened
    opened.close()


def moments(item: Item, first: int = 0) -> list[Moment]:
    """One for each of the item's, each in a direction of its own."""
    vectors = np.eye(16, dtype=np.float32)[first : first + item.moments]
    seconds = [None] if item.kind == "image" else [order + 0.5 for order in range(item.moments)]
    return [Moment(at, vector, {"en": item.sha256}, b"") for at, vector in zip(seconds, vectors, strict=True)]


def captions(store: Collections) -> set[str]:
    """Of all that a search finds."""
    vector = np.ones(16, np.float32)
    return {moment.captions["en"] for _, found in store.search("all", vector, 10, MODEL) for moment in found}


def breaking(store: Collections, monkeypatch: pytest.MonkeyPatch, method: str, count: int) -> None:
    """Let the store's next ``method`` do only the first ``count`` of its points."""
    real = getattr(store._client, method)

    def half(place: str, points: list[Any], **options: Any) -> None:
        real(place, points[:count], **options)
        raise OSError("No space left on device")

    monkeypatch.setattr(store._client, method, half)


def test_what_an_interrupted_upload_leaves_is_not_shown_and_the_next_one_repairs_it(
    store: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("all", PHOTO, moments(PHOTO), MODEL)
    with monkeypatch.context() as patched:
        breaking(store, patched, "upsert", 3)
        with pytest.raises(OSError, match="No space"):
            store.put("all", FILM, moments(FILM, 1), MODEL)
    assert not store.holds("all", "it", MODEL, FILM.writer, FILM.sha256)
    assert store.item("all", "it")[0] == PHOTO
    assert captions(store) == {"photo"}
    assert not store.put("all", PHOTO, moments(PHOTO), MODEL)
    assert (store.describe("all").items, store.describe("all").moments) == (1, 1)
    store.put("all", FILM, moments(FILM, 1), MODEL)
    assert store.holds("all", "it", MODEL, FILM.writer, FILM.sha256)
    assert captions(store) == {"film"}


def test_a_film_that_an_interrupted_upload_has_taken_moments_from_is_put_again(
    store: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("all", FILM, moments(FILM), MODEL)
    other = replace(FILM, sha256="other")
    with monkeypatch.context() as patched:
        breaking(store, patched, "upsert", 3)
        with pytest.raises(OSError, match="No space"):
            store.put("all", other, moments(other), MODEL)
    assert len(store.item("all", "it")[1]) == 7
    assert not store.holds("all", "it", MODEL, FILM.writer, FILM.sha256)
    store.put("all", FILM, moments(FILM), MODEL)
    assert store.holds("all", "it", MODEL, FILM.writer, FILM.sha256)
    assert len(store.item("all", "it")[1]) == 10


def test_what_interrupted_calls_leave_is_deleted_when_the_store_is_opened(
    store: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("all", PHOTO, moments(PHOTO), MODEL)
    other = replace(FILM, id="other", sha256="other")
    store.put("all", other, moments(other), MODEL)
    new, gone = replace(FILM, id="new"), replace(FILM, id="gone")
    store.put("all", gone, moments(gone), MODEL)
    with monkeypatch.context() as patched:
        breaking(store, patched, "upsert", 3)
        for item in (FILM, new):
            with pytest.raises(OSError, match="No space"):
                store.put("all", item, moments(item), MODEL)
        breaking(store, patched, "delete", 4)
        with pytest.raises(OSError, match="No space"):
            store.delete("all", "gone")
    assert store.describe("all").moments == 1 + 10 + 3 + 3 + 6
    store.close()
    with capture_logs() as logged:
        assert (store.describe("all").items, store.describe("all").moments) == (2, 11)
    assert [line["moments"] for line in logged] == [12]
    assert len(store.item("all", "other")[1]) == 10
    store.close()
    with capture_logs() as logged:
        assert store.describe("all").moments == 11
    assert not logged


def test_an_item_that_is_half_deleted_is_gone(store: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("all", FILM, moments(FILM), MODEL)
    with monkeypatch.context() as patched:
        breaking(store, patched, "delete", 4)
        with pytest.raises(OSError, match="No space"):
            store.delete("all", "it")
    assert captions(store) == set()
    assert store.describe("all").items == 0
    with pytest.raises(NoSuchItem):
        store.item("all", "it")
    assert store.put("all", PHOTO, moments(PHOTO), MODEL)
    assert (store.describe("all").items, store.describe("all").moments) == (1, 1)


def test_what_another_captioner_wrote_is_written_again(store: Collections) -> None:
    store.put("all", PHOTO, moments(PHOTO), MODEL)
    assert store.holds("all", "it", MODEL, "captioner 1.0.0", "photo")
    assert not store.holds("all", "it", MODEL, "captioner 2.0.0", "photo")


def test_deleted_moments_do_not_stay_in_memory(store: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collections, "_FORGOTTEN", 20)
    store.put("all", PHOTO, moments(PHOTO), MODEL)
    opened = store._client
    for number in range(3):
        film = Item(f"film{number}", "video", 10, "film")
        store.put("all", film, moments(film), MODEL)
        store.delete("all", film.id)
    assert store._client is not opened
    assert (store.describe("all").items, captions(store)) == (1, {"photo"})


def test_items_are_not_counted_one_by_one_after_each_change(
    store: Collections, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = [replace(PHOTO, id=f"photo{number}") for number in range(4)]
    for photo in photos[:3]:
        store.put("all", photo, moments(photo), MODEL)
    assert store.describe("all").items == 3
    filters: list[Any] = []
    count = store._client.count

    def counted(place: str, count_filter: Any = None) -> Any:
        filters.append(count_filter)
        return count(place, count_filter)

    monkeypatch.setattr(store._client, "count", counted)
    store.put("all", photos[3], moments(photos[3]), MODEL)
    store.delete("all", "photo0")
    assert store.describe("all").items == 3
    assert filters
    assert not any(filters)


def test_fewer_items_than_are_asked_for_are_found_at_once(store: Collections, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        film = Item(f"film{number}", "video", 10, f"film{number}")
        store.put("all", film, moments(film, number), MODEL)
    asked: list[int] = []
    query = store._client.query_points

    def counted(*given: Any, **options: Any) -> Any:
        asked.append(options["limit"])
        return query(*given, **options)

    monkeypatch.setattr(store._client, "query_points", counted)
    assert captions(store) == {"film0", "film1", "film2"}
    assert asked == [30]


def test_what_is_refused_leaves_no_empty_collection(tmp_path: Path) -> None:
    store = Collections(tmp_path / "store", most=1, most_moments=2)
    with pytest.raises(Conflict, match="would have 10 moments"):
        store.put("films", FILM, moments(FILM), MODEL)
    assert store.all() == []
    assert store.put("photos", PHOTO, moments(PHOTO), MODEL)
    store.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's list of open files")
def test_the_space_of_a_deleted_collection_is_free_at_once(store: Collections) -> None:
    store.put("all", PHOTO, moments(PHOTO), MODEL)
    store.delete("all")
    links = []
    for place in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(place.readlink()))
    assert not [link for link in links if "sqlite" in link and link.endswith("(deleted)")]


def test_a_store_whose_making_was_cut_short_is_made(tmp_path: Path) -> None:
    # Qdrant writes its first file in place: on a full disk it stays empty.
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "meta.json").touch()
    opened = Collections(tmp_path / "store", most=10, most_moments=20)
    assert opened.all() == []
    opened.close()
