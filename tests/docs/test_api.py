"""The page on the HTTP interface names all that there is: operations, options, fields of answers, notices, errors."""

import inspect
import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import app.search.collections  # noqa: F401  has errors of its own
from app.errors import ServiceError
from models.config import CheckpointConfig
from models.features import FEATURES
from models.pipeline import UNFAMILIAR
from tests.app.conftest import running_server
from tests.models.tasks.checkpoints import described, pipeline
from tests.models.tasks.test_tasks import EACH, NEXT
from tests.repository.project import ROOT
from tests.support import tiny_config

PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([\w-]+)`", PAGE))
CONFIGS = [
    tiny_config(),
    described("generation", NEXT, "text"),
    *(described(task, head, "audio", "text", **rest) for task, (head, rest) in EACH.items()),
]


def kinds(base: type[ServiceError]) -> set[tuple[str, int]]:
    """Each error's type and status."""
    return {(base.kind, base.status)}.union(*map(kinds, base.__subclasses__()))


def test_every_error_is_listed_with_its_status() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \| (\d{3}) \|", PAGE, re.MULTILINE)
    assert {(kind, int(status)) for kind, status in listed} == kinds(ServiceError)
    assert len(listed) == len(set(listed))


def test_every_operation_is_listed(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    shown = {path: path.replace("/captioner/", "/{model}/") for path in paths}
    operations = {(method.upper(), shown[path]) for path in paths for method in paths[path]}
    rows = re.findall(r"^\| (`[A-Z].*?`) \|", PAGE, re.MULTILINE)
    listed: set[tuple[str, str]] = set()
    for row in rows:
        methods = re.findall(r"\b[A-Z]{2,6}\b", row)
        for place, path in enumerate(re.findall(r"/[\w{}/]+", row)):
            listed |= {(method, path) for method in (methods if row.count("/v1") == 1 else [methods[place]])}
    assert listed - {("WS", "/v1/models/{model}/stream")} == operations


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.task)
def test_every_option_and_every_field_of_an_answer_is_named(config: CheckpointConfig) -> None:
    served = pipeline(config)
    named = set(served.options.model_fields) | set(served.result.model_fields)
    named |= set(chain.from_iterable(fields(value) for value in served.example.values()))
    assert named - NAMED == set()
    assert f"| {config.task} |" in PAGE


def fields(value: object) -> set[str]:
    """Names of the fields in a list of records."""
    return set(value[0]) if isinstance(value, list) and isinstance(value[0], dict) else set()


def test_every_notice_is_explained() -> None:
    parts = [FEATURES.part(name) for name in FEATURES.names()]
    ours = [part for part in parts if part.__module__.startswith("models.") and "notices" in vars(part)]
    said = " ".join(inspect.getdoc(part.notices) or "" for part in ours)
    notices = set(re.findall(r"``(\w+)``", said)) - {"max_seconds", "max_tokens", "max_numerals"}
    rows = re.findall(r"^\| (`[a-z_`, ]+) \| [^`|]+ \|$", PAGE, re.MULTILINE)
    explained = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert {"silence", "no_face", "several_numerals"} <= notices
    assert (notices | {UNFAMILIAR}) - explained == set()


def test_the_client_in_python_gets_its_answer(zoo: Path, jpeg: bytes, tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    with running_server(zoo) as (address, _):
        there = code.replace("localhost:8000", address).replace("import httpx\n", "import httpx2 as httpx\n")
        done = subprocess.run([sys.executable, "-c", there], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
