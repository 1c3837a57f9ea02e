"""FUSIONRNN_RUNTIME chooses the kernels, and the card says what was chosen."""

import pytest

from app.settings import Settings
from tests.app.conftest import Open


def test_a_card_says_what_runs_the_network(open_client: Open) -> None:
    runtime = open_client().get("/v1/models/captioner").json()["runtime"]
    assert runtime["name"] == "packed"
    assert runtime["parts"]["encoders.image.cnn"].startswith("float32")
    assert runtime["refused"] == {}


def test_torch_can_be_asked_for(open_client: Open) -> None:
    runtime = open_client(runtime="torch").get("/v1/models/captioner").json()["runtime"]
    assert runtime == {"name": "torch", "parts": {}, "refused": {}}


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONRNN_RUNTIME", "bf16")
    assert Settings().runtime == "bf16"
