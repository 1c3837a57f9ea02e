"""HEAD, which has no body, and methods that there are not, asked of a real server."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.app.conftest import running_server


@pytest.fixture(scope="module")
def http(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of a server with collections. It holds one connection, which a body out of place would spoil."""
    with (
        running_server(zoo, collections_dir=tmp_path_factory.mktemp("collections")) as (address, _),
        httpx2.Client(base_url=f"http://{address}", timeout=60, limits=httpx2.Limits(max_connections=1)) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/",
        "/metrics",
        "/live",
        "/live/live.js",
        "/v1/models",
        "/v1/models/captioner",
        "/v1/models/none",
        "/v1/collections",
        "/v1/collections/none",
        "/v1/collections/none/items/a",
    ],
)
def test_head_says_what_get_says_and_has_no_body(http: httpx2.Client, path: str) -> None:
    there, whole = http.head(path), http.get(path)
    assert there.status_code == whole.status_code
    assert there.headers["content-type" if whole.content else "location"]
    assert there.content == b""
    for name in ("content-type", "location"):
        assert there.headers.get(name) == whole.headers.get(name)


def test_head_is_nothing_where_get_is_nothing(http: httpx2.Client) -> None:
    assert http.head("/v1/models/captioner/predict").status_code == 405


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/collections/h/items/a", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/v1/collections/h", "GET, HEAD, DELETE"),
        ("HEAD", "/v1/models/captioner/predict", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_there_are(http: httpx2.Client, method: str, path: str, allowed: str) -> None:
    answer = http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_the_document_does_not_list_it(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert "head" not in {method for operations in paths.values() for method in operations}
