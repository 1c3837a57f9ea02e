"""What signals do to a server of one process."""

import signal
from pathlib import Path

import httpx2
import pytest
import structlog

from app.server import Server
from app.settings import Settings
from tests.app.process import started


@pytest.mark.timeout(120)
def test_a_single_process_outlives_sighup_and_says_how_to_reload(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with started(errors, MODEL_DIR=str(tmp_path)) as (process, said):
        address = said.split("Try it at ")[1].strip().removesuffix("/docs")
        process.send_signal(signal.SIGHUP)
        # Its loop heeds the signal before it answers.
        assert httpx2.get(f"{address}/healthz", timeout=30).status_code == 200
        assert process.poll() is None
    assert "POST /v1/models/NAME/load" in errors.read_text()


def test_one_of_several_processes_names_the_one_to_send_sighup_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.server.configure_logging", lambda _: None)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    server = Server(Settings(model_dir=[tmp_path], workers=2), lambda *_: None)
    with structlog.testing.capture_logs() as logged:
        server._stay()
    assert [(entry["log_level"], entry["remedy"]) for entry in logged] == [
        ("warning", "Send it to the process that started this one.")
    ]
