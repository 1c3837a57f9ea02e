"""Settings from the environment, and choices made from headers and logs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app.address import reachable
from app.api.accept import preferred
from app.main import create_app
from app.settings import Settings, unknown_settings
from tests.repository.project import ROOT


def test_a_user_without_a_home_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert Settings().collections_dir == Path("/.local/share/fusionrnn/collections")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Settings().collections_dir == Path("/data/fusionrnn/collections")


def test_the_environment_sets_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONRNN_MODEL_DIR", os.pathsep.join(["one", "two"]))
    monkeypatch.setenv("FUSIONRNN_PLUGINS", "first,second")
    monkeypatch.setenv("FUSIONRNN_LIMITS__IMAGE_BYTES", "1000")
    monkeypatch.setenv("FUSIONRNN_PORT", "9000")
    settings = Settings()
    assert settings.model_dir == [Path("one"), Path("two")]
    assert settings.plugins == ["first", "second"]
    assert (settings.limits.image_bytes, settings.port) == (1000, 9000)
    assert settings.limits.video_bytes == Settings.model_fields["limits"].default.video_bytes


def test_names_that_are_no_settings_are_told(monkeypatch: pytest.MonkeyPatch, zoo: Path) -> None:
    names = ["PATH", "FUSIONRNN_PORT", "fusionrnn_host", "FUSIONRNN_LIMITS__IMAGE_BYTES", "FUSIONRNN_ADMIN_KEYS"]
    assert unknown_settings(names) == ["FUSIONRNN_ADMIN_KEYS"]
    monkeypatch.setenv("FUSIONRNN_THREDS", "2")
    with structlog.testing.capture_logs() as lines:
        create_app(Settings(model_dir=[zoo]))
    assert [line["names"] for line in lines if line["log_level"] == "warning"] == [["FUSIONRNN_THREDS"]]


@pytest.mark.parametrize("package", ["app", "models"])
def test_numpy_keeps_to_one_thread_unless_it_is_told_otherwise(package: str) -> None:
    code = f"import {package}, os, sys; print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    for given, wanted in (({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=environment | given, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [wanted, "False"]


def test_every_setting_is_explained() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FUSIONRNN_STREAM_KEY", "FUSIONRNN_ADMIN_KEY", "FUSIONRNN_THREADS", "FUSIONRNN_LIMITS__IMAGE_BYTES"):
        monkeypatch.setenv(name, "")
    assert Settings() == Settings(stream_key=None, admin_key=None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"device": "tpu"},
        {"admin_key": "schlüssel"},
        {"admin_key": "two words"},
        {"max_waiting": 0},
        {"colour": "red"},
        {"limits": {"audio_seconds": -5}},
        {"limits": {"image_bytes": 0}},
        {"cors_origins": ["https://a.example/"]},
        {"cors_origins": ["a.example"]},
        {"collections_url": "qdrant:6333"},
        {"collections_url": "ftp://qdrant"},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings(**wrong)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "a/json"),
        ("text/events", "text/events"),
        ("a/json;q=0.5, text/events", "text/events"),
        ("a/*;q=0.5, text/events;q=0.4", "a/json"),
        ("*/*, a/json;q=0", "text/events"),
        ("text/html, */*;q=0.1", "a/json"),
        ("TEXT/Events; q=1", "text/events"),
        ("image/png", None),
        ("", "a/json"),
        (" , ,", "a/json"),
        ("a/json;q=oops", None),
    ],
)
def test_accept(accept: str, kind: str | None) -> None:
    assert preferred(accept, ["a/json", "text/events"]) == kind


def test_one_line_a_request(client: TestClient, jpeg: bytes) -> None:
    with structlog.testing.capture_logs() as lines:
        answer = client.post("/v1/models/captioner/predict", files={"image": jpeg}, headers={"X-Request-ID": "mine"})
        client.get("/v1/models/poet")
    assert [(line["event"], line["status"]) for line in lines] == [("request", 200), ("request", 404)]
    assert (lines[0]["path"], lines[0]["model"]) == ("/v1/models/captioner/predict", "captioner")
    assert {"ms", "queue", "decode", "features", "inference"} <= lines[0].keys()
    assert answer.status_code == 200


def test_blanks_around_the_items_of_a_list_are_none_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONRNN_CORS_ORIGINS", "https://a.example, https://b.example:8443 ,")
    assert Settings().cors_origins == ["https://a.example", "https://b.example:8443"]


@pytest.mark.parametrize(
    ("host", "address"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("a.example", "a.example")]
)
def test_where_a_browser_finds_it(host: str, address: str) -> None:
    assert reachable(host) == address
