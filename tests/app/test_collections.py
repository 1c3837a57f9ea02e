"""Collections over HTTP: put, search, look at, delete; what is refused; and that they last over a restart."""

import base64
import errno
import gc
import os
import re
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.search.collections import Collections
from app.search.items import Item
from app.search.moments import Annotator
from app.settings import Settings
from models.media.cancellation import Cancelled, check_cancelled
from tests.app.conftest import Open, running_server, service, wait_until_loaded
from tests.app.media import video
from tests.app.search.checkpoints import BLUE, GREEN, RED, asked_for, film, likeness, moment_of, picture, tiny_embedder
from tests.app.test_runner import Gate
from tests.support import framed_photo, tiny_captioner

PROBLEM = "application/problem+json"
EMBEDDER = "image-text-embedding"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a captioner and an embedder."""
    root = tmp_path_factory.mktemp("models")
    tiny_captioner(root / "captioner")
    tiny_embedder(root / "embedder")
    return root


@pytest.fixture(scope="module")
def client(models: Path, open_client: Open, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """A service with a store of its own, shared by tests that use collections of their own."""
    return open_client(model_dir=[models], collections_dir=tmp_path_factory.mktemp("store"))


@contextmanager
def serving(models: Path, store: Path) -> Iterator[TestClient]:
    """A service that ends with the block."""
    settings = Settings(model_dir=[models], collections_dir=store, device="cpu", threads=1)
    with TestClient(create_app(settings)) as client:
        wait_until_loaded(service(client))
        yield client


def put(client: TestClient, place: str, **files: bytes) -> Any:
    name, item = place.split("/")
    return client.put(f"/v1/collections/{name}/items/{item}", files=files)


def search(client: TestClient, name: str, **body: Any) -> Any:
    return client.post(f"/v1/collections/{name}/search", json=body)


def annotator_of(client: TestClient) -> Annotator:
    """What the service looks at uploads with."""
    registry = service(client).registry
    return Annotator(registry.get(EMBEDDER), registry.get("captioner"))


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_photos_and_films_are_put_found_and_forgotten(client: TestClient) -> None:
    first = put(client, "life/red.png", image=picture(RED))
    assert first.status_code == 201
    described = first.json()
    assert (described["id"], described["object"], described["kind"]) == ("red.png", "item", "image")
    (moment,) = described["moments"]
    assert moment["time"] is None
    assert moment["captions"].keys() == {"en", "zh"}
    clip = put(client, "life/film", video=film(RED, GREEN, BLUE)).json()
    assert (clip["kind"], clip["count"]) == ("video", 3)
    assert [moment["time"] for moment in clip["moments"]] == [0.5, 1.5, 2.5]
    put(client, "life/blue", image=picture(BLUE))

    found = search(client, "life", image=coded(picture(BLUE)), limit=2).json()["data"]
    assert {item["id"] for item in found} == {"blue", "film"}
    assert found[0]["score"] == pytest.approx(likeness(annotator_of(client), picture(BLUE)), abs=0.01)
    (film_found,) = [item for item in found if item["id"] == "film"]
    assert film_found["moments"][0]["time"] == 2.5
    assert len(film_found["moments"]) == 3
    texts = search(client, "life", text="一只小狗 a dog").json()["data"]
    assert {item["id"] for item in texts} == {"red.png", "film", "blue"}
    scores = [item["score"] for item in texts]
    assert scores == sorted(scores, reverse=True)

    assert client.get("/v1/collections/life/items/film").json() == clip
    card = client.get("/v1/collections/life").json()
    assert (card["items"], card["moments"], card["next"]) == (3, 5, None)
    assert {item["id"]: item["count"] for item in card["data"]} == {"red.png": 1, "film": 3, "blue": 1}
    assert card["model"].startswith("image-text-embedding 0.0.1 ")
    assert "life" in [each["id"] for each in client.get("/v1/collections").json()["data"]]

    assert client.delete("/v1/collections/life/items/film").status_code == 204
    assert client.get("/v1/collections/life/items/film").status_code == 404
    assert "film" not in [item["id"] for item in search(client, "life", text="a dog").json()["data"]]
    assert client.delete("/v1/collections/life").status_code == 204
    assert client.get("/v1/collections/life").status_code == 404


def test_what_was_noticed_is_said_of_a_picture_and_of_a_query(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    framed = put(client, "noticed/framed", image=framed_photo()).json()
    assert framed["moments"][0]["notices"] == ["borders"]
    assert client.get("/v1/collections/noticed/items/framed").json() == framed
    found = search(client, "noticed", text="zzzz qqqq").json()
    assert found["notices"] == {"text": ["unknown_words"]}
    assert found["data"][0]["moments"][0]["notices"] == ["borders"]
    assert search(client, "noticed", text="a dog").json()["notices"] == {}


def test_an_address_with_an_option_that_there_is_not_is_refused(client: TestClient) -> None:
    put(client, "paged/red", image=picture(RED))
    answer = client.get("/v1/collections/paged?limit=1")
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


def test_a_client_says_how_long_it_waits(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = {"X-Request-Timeout": "soon"}
    answer = client.put("/v1/collections/late/items/film", files={"video": film(RED)}, headers=soon)
    assert (answer.status_code, answer.json()["field"]) == (422, "X-Request-Timeout")
    # An empty server lets everyone in, but not beyond the client's time.
    short = {"X-Request-Timeout": "1e-3"}
    answer = client.put("/v1/collections/late/items/film", files={"video": film(RED, GREEN)}, headers=short)
    assert answer.status_code == 504
    assert client.get("/v1/collections/late").status_code == 404
    assert put(client, "late/red", image=picture(RED)).status_code == 201
    embedder = service(client).registry.get("image-text-embedding")
    held = Gate(embedder.predict_batch)
    monkeypatch.setattr(embedder, "predict_batch", held)
    answer = client.post("/v1/collections/late/search", json={"text": "a dog"}, headers=short)
    held.opened.set()
    assert answer.status_code == 504


@pytest.mark.parametrize("method", ["search", "put"])
def test_checkpoints_that_rest_are_loaded_within_the_time_of_an_answer(
    models: Path, open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    client = open_client(model_dir=[models], collections_dir=tmp_path / "store", deadline_seconds=0.3)
    registry = service(client).registry
    held = Gate(registry.load)
    monkeypatch.setattr(registry, "load", held)
    registry.unload(EMBEDDER, rest=True)
    with ThreadPoolExecutor(1) as pool:
        asking = (
            pool.submit(search, client, "late", text="a dog")
            if method == "search"
            else pool.submit(put, client, "late/red", image=picture(RED))
        )
        try:
            answer = asking.result(10)
        finally:
            held.opened.set()
    assert (answer.status_code, answer.json()["detail"]) == (504, "The model was not loaded in time.")
    assert 'fusionrnn_evicted_total{reason="deadline"} 1.0' in service(client).metrics.text().decode()


def test_what_is_noticed_of_an_item_is_not_counted_beside_predict(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path) as client:
        assert put(client, "framed/a", image=framed_photo()).status_code == 201
        assert "fusionrnn_notices_total{" not in client.get("/metrics").text
        client.post("/v1/models/captioner/predict", files={"image": framed_photo()})
        assert "fusionrnn_notices_total{" in client.get("/metrics").text


def test_an_item_is_answered_from_what_was_put(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Collections.put

    def put_and_lose(store: Collections, name: str, item: Item, *given: Any) -> bool:
        new = stored(store, name, item, *given)
        store.delete(name, item.id)
        return new

    monkeypatch.setattr(Collections, "put", put_and_lose)
    answer = put(client, "lost/film", video=film(RED, GREEN))
    assert answer.status_code == 201
    assert [moment["time"] for moment in answer.json()["moments"]] == [0.5, 1.5]
    assert client.get("/v1/collections/lost/items/film").status_code == 404


def test_the_moment_of_a_film_shorter_than_half_a_second_lies_within_it(client: TestClient) -> None:
    times = {}
    for frames in (3, 12):
        (moment,) = put(client, f"short/{frames}", video=video(frames)).json()["moments"]
        times[frames] = moment["time"]
    assert times == {3: 0.25, 12: 0.5}


def test_a_full_collection_refuses_before_anything_is_looked_at(
    models: Path, open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(
        model_dir=[models], collections_dir=tmp_path / "store", collections_moments=3, collections_most=1
    )
    assert put(client, "small/film", video=film(RED, GREEN)).status_code == 201
    assert put(client, "small/last", image=picture(RED)).status_code == 201

    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr("app.search.moments.Annotator.inferences", refuse)
    for place in ("small/other", "second/photo"):
        answer = put(client, place, image=picture(RED))
        assert answer.status_code == 409, answer.text


@pytest.mark.parametrize(("part", "data", "kind"), [("image", film(RED), "video"), ("video", picture(RED), "image")])
def test_a_part_is_what_it_is_called(client: TestClient, part: str, data: bytes, kind: str) -> None:
    answer = put(client, "kinds/item", **{part: data})
    assert (answer.status_code, answer.json()["modality"]) == (415, part)
    assert kind in answer.json()["remedy"]


def test_an_empty_part_is_called_what_it_was_sent_as(client: TestClient) -> None:
    answer = client.put("/v1/collections/kinds/items/a", files={"video": ("film.mp4", b"")})
    assert (answer.status_code, answer.json()["modality"]) == (422, "video")


def test_options_in_the_address_are_refused(client: TestClient) -> None:
    searched = client.post("/v1/collections/any/search?limit=3", json={"text": "a dog"})
    stored = client.put("/v1/collections/any/items/a?limit=3", files={"image": picture(RED)})
    for answer in (searched, stored):
        assert (answer.status_code, answer.json()["field"]) == (422, "limit")


def test_requests_are_answered_until_the_server_stops_to_listen(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path) as client:
        service(client).draining = True
        assert client.get("/readyz").status_code == 503
        assert put(client, "late/red", image=picture(RED)).status_code == 201
        assert search(client, "late", text="a dog").status_code == 200


def test_an_upload_is_found_by_its_captions_too_as_in_an_index(client: TestClient) -> None:
    put(client, "said/red", image=picture(RED))
    annotator = annotator_of(client)
    asked = asked_for(annotator, "text", "the runs")
    score, alone = (asked @ moment_of(by, picture(RED)).vector for by in (annotator, Annotator(annotator.embedder)))
    assert abs(score - alone) > 0.01
    (found,) = search(client, "said", text="the runs").json()["data"]
    assert found["score"] == pytest.approx(score, abs=1e-3)


def test_captions_stay_while_nobody_captions(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path) as client:
        captioned = put(client, "kept/red", image=picture(RED)).json()
        service(client).registry.unload("captioner", rest=False)
        again = put(client, "kept/red", image=picture(RED))
        assert (again.status_code, again.json()) == (200, captioned)
        assert captioned["moments"][0]["captions"].keys() == {"en", "zh"}


def test_models_that_watch_a_film_do_not_rest(
    models: Path, open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = open_client(model_dir=[models], collections_dir=tmp_path / "store", idle_unload_seconds=1000)
    state = service(client)
    seen: list[bool] = []
    look = Annotator.described

    def aged(annotator: Annotator, *given: Any) -> Any:
        seen.append(all(state.swaps._used[name] > time.monotonic() - 500 for name in ("captioner", EMBEDDER)))
        for name in state.swaps._used:
            state.swaps._used[name] -= 600
        return look(annotator, *given)

    monkeypatch.setattr(Annotator, "described", aged)
    put(client, "long/film", video=film(RED, GREEN, BLUE))
    assert seen == [True] * 3


def test_nobody_watches_a_film_for_a_client_that_has_left(models: Path, tmp_path: Path) -> None:
    with running_server(models, collections_dir=tmp_path / "store") as (address, state):
        body = {"video": coded(film(*[RED, GREEN, BLUE] * 40))}
        with pytest.raises(httpx2.TimeoutException):
            httpx2.put(f"http://{address}/v1/collections/left/items/film", json=body, timeout=0.5)
        deadline = time.monotonic() + 10
        while state.admission.reservations and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not state.admission.reservations
        assert 'evicted_total{reason="left"} 1.0' in state.metrics.text().decode().replace("fusionrnn_", "")
        assert httpx2.get(f"http://{address}/v1/collections/left").status_code == 404


def test_nothing_is_searched_for_a_client_that_has_left(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_server(models, collections_dir=tmp_path / "store") as (address, state):
        httpx2.put(f"http://{address}/v1/collections/left/items/red", files={"image": picture(RED)}, timeout=30)
        embedder = state.registry.get(EMBEDDER)
        held = Gate(embedder.predict_batch)
        monkeypatch.setattr(embedder, "predict_batch", held)
        with pytest.raises(httpx2.TimeoutException):
            httpx2.post(f"http://{address}/v1/collections/left/search", json={"text": "a dog"}, timeout=0.5)
        deadline = time.monotonic() + 10
        while state.admission.reservations and time.monotonic() < deadline:
            time.sleep(0.01)
        held.opened.set()
        assert not state.admission.reservations
        assert 'fusionrnn_evicted_total{reason="left"} 1.0' in state.metrics.text().decode()


def test_a_picture_is_not_decoded_to_its_end_for_a_client_that_has_left(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def endless(*_: object) -> Iterator[None]:
        try:
            while True:
                check_cancelled()
                time.sleep(0.01)
                if ended.wait(0):
                    yield
        except Cancelled:
            ended.set()
            raise

    monkeypatch.setattr(Annotator, "pictures", endless)
    with running_server(models, collections_dir=tmp_path / "store") as (address, _):
        body = {"video": coded(film(RED))}
        with pytest.raises(httpx2.TimeoutException):
            httpx2.put(f"http://{address}/v1/collections/left/items/film", json=body, timeout=1)
        assert ended.wait(10)


def test_the_store_keeps_nobody_waiting_behind_too_many(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    put(client, "busy/red", image=picture(RED))
    monkeypatch.setattr("app.search.executor._MOST", 0)
    answer = client.get("/v1/collections/busy")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    monkeypatch.setattr("app.search.executor._MOST", 1)
    assert client.get("/v1/collections/busy").status_code == 200


def test_another_upload_replaces_an_item_and_the_same_one_is_not_looked_at(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put(client, "new/item", video=film(RED, GREEN, BLUE)).status_code == 201
    replaced = put(client, "new/item", image=picture(GREEN))
    assert (replaced.status_code, replaced.json()["kind"], len(replaced.json()["moments"])) == (200, "image", 1)
    assert client.get("/v1/collections/new").json()["moments"] == 1

    def refuse(*_: object) -> None:
        raise AssertionError("a network was asked again")

    monkeypatch.setattr("app.search.moments.Annotator.inferences", refuse)
    again = put(client, "new/item", image=picture(GREEN))
    assert (again.status_code, again.json()) == (200, replaced.json())


def test_an_upload_that_a_full_disk_does_not_take_leaves_what_was_there(client: TestClient) -> None:
    before = put(client, "kept/item", video=film(RED, GREEN, BLUE)).json()

    def fill(store: Collections) -> None:
        embedded: Any = store._client._client
        embedded.collections["fusionrnn.kept"].storage.storage.execute("PRAGMA max_page_count = 1")

    served: Any = client
    served.portal.call(served.app.state.collections.ask, fill)
    # One that is as large as what it would replace finds room in its place.
    refused = put(client, "kept/another", video=film(*[RED] * 20))
    assert (refused.status_code, refused.headers["content-type"]) == (507, PROBLEM)
    assert "FUSIONRNN_COLLECTIONS_DIR" in refused.json()["remedy"]
    assert client.get("/v1/collections/kept/items/item").json() == before
    assert client.get("/v1/collections/kept/items/another").status_code == 404
    assert put(client, "kept/another", image=picture(GREEN)).status_code == 201


def test_a_store_that_cannot_be_made_says_what_to_set(models: Path, open_client: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    broken = open_client(model_dir=[models], collections_dir=tmp_path / "file" / "store")
    answer = broken.get("/v1/collections")
    assert answer.status_code == 409
    assert "FUSIONRNN_COLLECTIONS_DIR" in answer.json()["remedy"]


def test_a_store_that_a_full_disk_does_not_let_be_made_is_the_disks_fault(
    models: Path, open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = open_client(model_dir=[models], collections_dir=tmp_path / "store")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("qdrant_client.QdrantClient", fail)
        refused = put(full, "first/item", image=picture(RED))
    assert (refused.status_code, refused.json()["type"]) == (507, "urn:fusionrnn:problem:storage-failed")
    assert "Free space" in refused.json()["remedy"]
    assert put(full, "first/item", image=picture(RED)).status_code == 201


def test_an_empty_file_is_said_to_be_empty(client: TestClient) -> None:
    answer = client.put("/v1/collections/new/items/empty", files={"image": ("empty.jpg", b"")})
    assert answer.status_code == 422
    assert "empty" in answer.json()["detail"]


def test_json_with_base64_is_taken(client: TestClient) -> None:
    answer = client.put("/v1/collections/json/items/a", json={"image": coded(picture(RED))})
    assert answer.status_code == 201
    assert len(search(client, "json", image=coded(picture(RED)), limit=1).json()["data"]) == 1


def test_collections_last_over_a_restart(models: Path, tmp_path: Path) -> None:
    for known in (False, True):
        with serving(models, tmp_path / "made" / "store") as client:
            if not known:
                put(client, "life/red", image=picture(RED))
            (found,) = search(client, "life", image=coded(picture(RED))).json()["data"]
            assert found["id"] == "red"
            assert found["score"] == pytest.approx(likeness(annotator_of(client), picture(RED)), abs=0.01)


def test_many_items_come_in_pages(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.collections.PAGE", 2)
    for name in "abc":
        put(client, f"pages/{name}", image=picture(RED))
    first = client.get("/v1/collections/pages").json()
    second = client.get("/v1/collections/pages", params={"after": first["next"]}).json()
    assert (len(first["data"]), len(second["data"]), second["next"]) == (2, 1, None)
    assert {item["id"] for item in first["data"] + second["data"]} == {"a", "b", "c"}


def test_items_put_at_once_are_all_there(client: TestClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: put(client, f"many/{n}", image=picture((n * 20, 90, 90))), range(8)))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert client.get("/v1/collections/many").json()["items"] == 8


def test_a_collection_without_any_item_finds_nothing(client: TestClient) -> None:
    put(client, "empty/a", image=picture(RED))
    client.delete("/v1/collections/empty/items/a")
    assert search(client, "empty", text="a dog").json() == {"object": "list", "data": [], "notices": {}}
    assert client.get("/v1/collections/empty").json()["items"] == 0


@pytest.mark.parametrize("path", ["none", "none/items/a"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_not_there(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"/v1/collections/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    assert answer.json()["type"].endswith("unknown-item")


def test_a_search_in_what_is_not_there_names_what_is(models: Path, open_client: Open, tmp_path: Path) -> None:
    client = open_client(model_dir=[models], collections_dir=tmp_path / "store")
    answer = search(client, "none", text="a dog")
    assert (answer.status_code, answer.json()["remedy"].partition(";")[0]) == (404, "There are none at all")
    for name in ("cats", "dogs"):
        put(client, f"{name}/red", image=picture(RED))
    assert search(client, "none", text="a dog").json()["remedy"].startswith("There are cats, dogs;")


def test_an_item_that_is_not_in_a_collection(client: TestClient) -> None:
    put(client, "some/a", image=picture(RED))
    for method in ("GET", "DELETE"):
        answer = client.request(method, "/v1/collections/some/items/b")
        assert (answer.status_code, "'b'" in answer.json()["detail"]) == (404, True)


@pytest.mark.parametrize("name", ["Upper", "a b", "-a", "x" * 65, "a.b", "\u72d7"])
def test_names_that_are_not_taken(client: TestClient, name: str) -> None:
    answer = put(client, f"{name}/item", image=picture(RED))
    assert (answer.status_code, answer.headers["content-type"], answer.json()["field"]) == (422, PROBLEM, "name")


@pytest.mark.parametrize("item", [".hidden", "a b", "x" * 129, "\u72d7"])
def test_ids_that_are_not_taken(client: TestClient, item: str) -> None:
    answer = put(client, f"ids/{item}", image=picture(RED))
    assert (answer.status_code, answer.json()["field"]) == (422, "item")


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({}, 400),
        ({"image": b""}, 422),
        ({"audio": b"RIFF"}, 422),
        ({"image": b"GIF89a" + bytes(20)}, 400),
        ({"image": b"a letter and no photo"}, 415),
        ({"video": b"a letter and no film"}, 415),
        ({"image": picture(RED), "video": film(RED)}, 422),
    ],
)
def test_uploads_that_are_not_taken(client: TestClient, files: dict[str, bytes], status: int) -> None:
    answer = client.put("/v1/collections/refused/items/a", files=files)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)
    assert client.get("/v1/collections/refused").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"text": "a dog", "image": coded(picture(RED))}, 422),
        ({"text": "a dog", "limit": 0}, 422),
        ({"text": "a dog", "limit": 101}, 422),
        ({"text": "a dog", "limit": "many"}, 422),
        ({"text": "a dog", "limit": True}, 422),
        ({"text": "a dog", "top": 3}, 422),
        ({"text": "x" * 20_001}, 422),
        ({"image": "not base64"}, 400),
        ({"image": coded(b"a letter")}, 415),
    ],
)
def test_searches_that_are_not_made(client: TestClient, body: dict[str, Any], status: int) -> None:
    put(client, "asked/a", image=picture(RED))
    answer = search(client, "asked", **body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM)


@pytest.mark.parametrize("after", ["1; DROP", "-" * 36, "{8f0cf9c1-6a4e-4d5c-9b39-0e3c8e9c2f5}", ""])
def test_after_is_the_next_of_a_former_answer(client: TestClient, after: str) -> None:
    put(client, "after/a", image=picture(RED))
    answer = client.get("/v1/collections/after", params={"after": after})
    assert (answer.status_code, answer.json()["field"]) == (422, "after")


def test_limits_of_the_store(models: Path, open_client: Open, tmp_path: Path) -> None:
    client = open_client(model_dir=[models], collections_dir=tmp_path, collections_most=1, collections_moments=3)
    assert put(client, "one/a", image=picture(RED)).status_code == 201
    full = put(client, "one/b", video=film(RED, GREEN, BLUE))
    assert (full.status_code, full.json()["limit"]) == (409, "3 moments")
    # In place of what is there, it fits.
    assert put(client, "one/a", video=film(RED, GREEN, BLUE)).status_code == 200
    more = put(client, "two/a", image=picture(RED))
    assert (more.status_code, more.json()["limit"]) == (409, "1 collections")


def test_bytes_have_a_limit(models: Path, open_client: Open, tmp_path: Path) -> None:
    client = open_client(model_dir=[models], collections_dir=tmp_path, limits={"image_bytes": 50})
    answer = put(client, "a/a", image=picture(RED))
    assert (answer.status_code, answer.json()["limit"]) == (413, "50 bytes")


def test_a_collection_of_another_checkpoint(models: Path, tmp_path: Path) -> None:
    tiny_embedder(tmp_path / "other", seed=1)
    with serving(models, tmp_path / "store") as client:
        put(client, "life/red", image=picture(RED))
    with serving(tmp_path / "other", tmp_path / "store") as client:
        for answer in (put(client, "life/blue", image=picture(BLUE)), search(client, "life", text="a dog")):
            assert (answer.status_code, "was made with" in answer.json()["detail"]) == (409, True)


def test_without_a_captioner_there_are_no_captions(models: Path, open_client: Open, tmp_path: Path) -> None:
    client = open_client(model_dir=[models / "embedder"], collections_dir=tmp_path)
    assert put(client, "a/a", image=picture(RED)).json()["moments"] == [{"time": None, "captions": {}, "notices": []}]


def test_without_an_embedder_there_are_no_collections(open_client: Open, tmp_path: Path) -> None:
    client = open_client(collections_dir=tmp_path)
    missing = put(client, "a/a", image=picture(RED))
    assert (missing.status_code, missing.headers["retry-after"]) == (503, "60")
    assert "'image-text-embedding' (FUSIONRNN_COLLECTIONS_MODEL)" in missing.json()["detail"]
    wrong = open_client(collections_dir=tmp_path, collections_model="captioner")
    assert put(wrong, "a/a", image=picture(RED)).status_code == 503


# Qdrant leaves the lock's file open when it finds it locked.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_store_that_is_in_use(models: Path, open_client: Open, tmp_path: Path) -> None:
    put(open_client(model_dir=[models], collections_dir=tmp_path), "a/a", image=picture(RED))
    second = open_client(model_dir=[models], collections_dir=tmp_path)
    answer = second.get("/v1/collections")
    assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    with warnings.catch_warnings():
        # The store's client leaves the lock file that it could not lock open.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_a_server_that_does_not_answer(models: Path, open_client: Open, tmp_path: Path) -> None:
    client = open_client(model_dir=[models], collections_dir=tmp_path / "store", collections_url="http://127.0.0.1:9")
    for answer in (client.get("/v1/collections"), put(client, "a/a", image=picture(RED))):
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
    assert not (tmp_path / "store").exists()


def test_nobody_who_asks_for_no_collection_gets_a_folder(models: Path, tmp_path: Path) -> None:
    with serving(models, tmp_path / "store") as client:
        client.get("/v1/models")
    assert not (tmp_path / "store").exists()


def test_the_document_describes_them(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    put_item = paths["/v1/collections/{name}/items/{item}"]["put"]
    assert put_item["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"].keys() == {
        "image",
        "video",
    }
    assert {"200", "201", "409", "413", "422"} <= put_item["responses"].keys()
    named = {parameter["name"]: parameter["schema"] for parameter in put_item["parameters"]}
    assert named.keys() == {"name", "item", "X-Request-Timeout"}
    assert re.fullmatch(named["item"]["pattern"], "beach-1")
    assert not re.fullmatch(named["name"]["pattern"], "Beach")
    example = paths["/v1/collections/{name}/search"]["post"]["requestBody"]["content"]["application/json"]["example"]
    put(client, "documented/a", image=picture(RED))
    assert search(client, "documented", **example).status_code == 200
