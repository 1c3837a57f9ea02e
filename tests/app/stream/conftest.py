"""A service that serves the shipped causal checkpoint, and the far end of its streams."""

import json
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from app.engine.sessions import Sessions
from app.main import create_app
from app.settings import ZOO, Settings
from tests.app.conftest import service, wait_until_loaded
from tests.app.process import started

PATH = "/v1/models/voice-commands/stream"
S16 = {"audio": {"encoding": "pcm_s16le", "sample_rate": 16_000}}
RATE = 16_000


@pytest.fixture(scope="session")
def commands() -> Iterator[TestClient]:
    """A service with the defaults."""
    with serving() as client:
        yield client


def serving(**settings: Any) -> TestClient:
    """A client, to be entered, of a service with ``voice-commands``."""
    given = {"model_dir": [ZOO / "voice-commands"], "device": "cpu", "threads": 1, **settings}
    return Ready(create_app(Settings(**given)))


class Ready(TestClient):
    """Enters when the checkpoints are loaded."""

    def __enter__(self) -> "Ready":
        super().__enter__()
        wait_until_loaded(service(self))
        return self


@contextmanager
def server(errors: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, with ``voice-commands``, and where it streams."""
    given = {"MODEL_DIR": str(ZOO / "voice-commands"), "THREADS": "1", "STREAM_KEY": "shared", **settings}
    with started(errors, **given) as (process, said):
        yield process, "ws://" + said.split("http://")[1].split("/")[0] + PATH


def sessions_of(client: TestClient) -> Sessions:
    """The sessions behind a client."""
    found = client.app.state.sessions  # type: ignore[attr-defined]
    assert isinstance(found, Sessions)
    return found


class FarEnd:
    """One connection, as a client sees it."""

    def __init__(self, socket: WebSocketTestSession) -> None:
        self.socket = socket
        self.sequence = 0

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send_text(json.dumps({"type": kind, **fields}))

    def start(self, **fields: Any) -> dict[str, Any]:
        """Start, and return the answer."""
        self.say(
            "session.start", **({"modalities": S16} | fields if not fields.keys() & {"state", "session"} else fields)
        )
        event = self.hear()
        if event["type"] == "session.started":
            self.sequence = event["next_sequence"]
        return event

    def send(self, payload: bytes, sequence: int | None = None, modality: int = 0, seconds: float = 0.0) -> None:
        """A chunk; the next one, unless a number is given."""
        number = self.sequence if sequence is None else sequence
        self.socket.send_bytes(struct.pack("<IB3xd", number, modality, seconds) + payload)
        if sequence is None:
            self.sequence += 1

    def send_sound(self, samples: np.ndarray, size: int = 1280, dtype: str = "<i2") -> None:
        """Samples -1..1 in chunks of ``size``."""
        for at in range(0, len(samples), size):
            self.send(pcm(samples[at : at + size], dtype))

    def hear(self) -> dict[str, Any]:
        """The next event."""
        event: dict[str, Any] = self.socket.receive_json()
        return event

    def until(self, kind: str, most: int = 10_000) -> list[dict[str, Any]]:
        """All events up to the first of a kind."""
        events: list[dict[str, Any]] = []
        while len(events) < most:
            events.append(self.hear())
            if events[-1]["type"] == kind:
                return events
        raise AssertionError(f"no {kind}")

    def rest(self) -> tuple[list[dict[str, Any]], int]:
        """All events up to the close, and its code."""
        events = []
        try:
            while True:
                events.append(self.hear())
        except WebSocketDisconnect as closed:
            return events, closed.code


def pcm(samples: np.ndarray, dtype: str = "<i2") -> bytes:
    """Samples -1..1 as bytes."""
    scaled = np.round(samples * 32767) if dtype == "<i2" else samples
    return scaled.astype(dtype).tobytes()


def finals(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What does not depend on how the sound came."""
    return [
        (event["event"], event["text"], event["endpoint"], event["start"], event["end"])
        for event in events
        if event["type"] == "final"
    ]
