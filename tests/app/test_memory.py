"""Memory stays what it was, however many requests and swaps there have been."""

import base64
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.engine.swaps import free
from tests.app.conftest import Open

URL = "/v1/models/captioner"
MEBIBYTE = 2**20

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")


def resident() -> int:
    """Bytes of this process that are in memory, after what can be given back was."""
    gc.collect()
    free()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def growth(work: Callable[[int], object], times: int) -> float:
    """MiB by which memory grows from one half of ``times`` calls to the other, after as many to warm up."""
    for number in range(times):
        work(number)
    before = resident()
    for number in range(times):
        work(number)
    return (resident() - before) / MEBIBYTE


def test_requests_of_every_kind_leave_nothing_behind(client: TestClient, jpeg: bytes) -> None:
    coded = base64.b64encode(jpeg).decode()
    asked: list[dict[str, Any]] = [
        {"files": {"image": jpeg}},
        {"json": {"image": coded, "language": "zh", "num_captions": 3}},
        {"files": {"image": jpeg}, "headers": {"Accept": "text/event-stream"}},
        {"files": {"image": jpeg}, "headers": {"Accept": "image/png"}, "data": {"max_length": 2}},
        {"files": {"image": jpeg[:500]}},
        {"files": {"image": bytes(MEBIBYTE)}},
        {"json": {"image": coded, "beam_size": 99}},
    ]
    # A megabyte kept of every seventh request would be ten.
    assert growth(lambda number: client.post(f"{URL}/predict", **asked[number % len(asked)]), 70) < 8


def test_memory_is_given_back_and_plans_are_bounded(open_client: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    given = threading.Event()
    monkeypatch.setattr("app.main._TIDY_SECONDS", 0.01)
    monkeypatch.setattr("app.main.give_back", given.set)
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    open_client()
    assert given.wait(30)
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "512"


def test_replaced_checkpoints_leave_nothing_behind(open_client: Open) -> None:
    client = open_client(admin_key="secret")

    def swap(_: int) -> None:
        answer = client.post(f"{URL}/load", headers={"Authorization": "Bearer secret"})
        assert answer.status_code == 200

    # A copy has nine MiB of weights. Threads that load leave some free memory in each of the allocator's arenas, until
    # all of them have been used.
    assert growth(swap, 10) < 20
