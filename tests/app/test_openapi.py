"""The document shows each checkpoint's own form, and /docs needs nothing from elsewhere."""

import json
import re
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from tests.app.conftest import Open
from tests.support import tiny_captioner

PATH = "/v1/models/captioner/predict"


def operation(client: TestClient, path: str = PATH) -> dict[str, Any]:
    """A path's POST operation."""
    found: dict[str, Any] = client.get("/openapi.json").json()["paths"][path]["post"]
    return found


def test_the_form_has_the_checkpoints_own_parts_and_options(client: TestClient) -> None:
    content = operation(client)["requestBody"]["content"]
    assert content.keys() == {"multipart/form-data", "application/json"}
    form = content["multipart/form-data"]["schema"]["properties"]
    assert form["image"]["type"] == "array"
    assert form["image"]["maxItems"] == 4
    assert form["image"]["items"] == {"type": "string", "format": "binary"}
    assert (form["video"]["type"], form["video"]["format"]) == ("string", "binary")
    assert "audio" not in form
    assert "text" not in form
    assert form["language"]["enum"] == ["en", "zh"]
    assert {key: form["beam_size"][key] for key in ("type", "minimum", "maximum", "default")} == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10,
        "default": 3,
    }
    assert form["max_length"]["default"] == 8
    assert form["seed"]["type"] == "integer"
    assert form["explain"]["type"] == "boolean"
    assert all(field["description"] for field in form.values())


def test_the_examples_work(client: TestClient) -> None:
    described = operation(client)
    answer = client.post(PATH, json=described["requestBody"]["content"]["application/json"]["example"])
    assert answer.status_code == 200
    example = described["responses"]["200"]["content"]["application/json"]["example"]
    assert answer.json().keys() == example.keys()
    assert {"400", "413", "415", "422", "503", "504"} <= described["responses"].keys()


def test_sections_stand_in_the_order_of_need_and_each_is_described(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    sections = [tag["name"] for tag in document["tags"] if tag["description"]]
    used = {tag for path in document["paths"].values() for operation in path.values() for tag in operation["tags"]}
    assert sections[0] == "predict"
    assert set(sections) == used


def test_every_refusal_has_an_example_of_its_own_status(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    seen = set()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if (content := response.get("content", {}).get("application/problem+json")) is None:
                    continue
                example = content["example"]
                assert example["status"] == int(status), path
                assert example["detail"] == f"{response['description']}."
                seen.add((int(status), example["type"].rpartition(":")[2]))
    assert {(404, "unknown-model"), (404, "unknown-item"), (409, "load-failed"), (503, "unavailable")} <= seen
    assert client.get("/v1/collections/none").json()["type"].endswith(":unknown-item")


def test_the_example_of_a_problem_is_one_that_comes(client: TestClient) -> None:
    example = client.get("/openapi.json").json()["components"]["schemas"]["Problem"]["example"]
    answer = client.post(PATH, files={"image": b""})
    assert answer.json() == example


def test_the_page_has_a_field_for_the_admin_key(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["admin_key"]["scheme"] == "bearer"
    for path in ("load", "unload"):
        described = document["paths"][f"/v1/models/{{model}}/{path}"]["post"]
        assert described["security"] == [{"admin_key": []}]
        assert {"401", "403", "404", "409"} <= described["responses"].keys()


def test_errors_that_occur_are_described(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"400", "406", "408", "413", "415", "422", "503", "504"} <= paths[PATH]["post"]["responses"].keys()
    assert {"400", "409", "413", "415", "422"} <= paths["/v1/collections/{name}/items/{item}"]["put"][
        "responses"
    ].keys()
    assert "404" in paths["/v1/models/{model}"]["get"]["responses"]


def test_nothing_is_described_that_never_occurs(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document)
    put = document["paths"]["/v1/collections/{name}/items/{item}"]["put"]
    assert {"201", "400", "408", "409", "413", "415", "422", "503", "504"} <= put["responses"].keys()
    photo = put["requestBody"]["content"]["application/json"]["example"]["image"]
    assert client.post(PATH, json={"image": photo}).status_code == 200, "the example is no photo"
    figures = document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert figures.keys() == {"text/plain"}


def test_every_reference_leads_somewhere(client: TestClient) -> None:
    text = client.get("/openapi.json").text
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert set(re.findall('"#/components/schemas/([^"]+)"', text)) <= schemas.keys()
    assert "/v1/models/{model}/predict" not in text


def test_each_checkpoint_has_its_operation(open_client: Open, zoo: Path, tmp_path: Path) -> None:
    tiny_captioner(tmp_path / "second", "second")
    client = open_client(model_dir=[zoo, tmp_path])
    first, second = operation(client), operation(client, "/v1/models/second/predict")
    assert first["operationId"] != second["operationId"]


def test_docs_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert "://" not in "".join(sources)
    for source in sources:
        assert client.get(source).status_code == 200
