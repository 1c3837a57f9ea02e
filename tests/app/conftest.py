"""A folder of tiny checkpoints and clients of services that serve it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.engine.service import Service
from app.main import create_app
from app.server import Server
from app.settings import Settings
from tests.support import encoded_photo, tiny_captioner

Open = Callable[..., TestClient]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one checkpoint, ``captioner``."""
    root = tmp_path_factory.mktemp("zoo")
    tiny_captioner(root / "captioner")
    return root


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A photo as a file."""
    return encoded_photo()


@pytest.fixture(scope="module")
def open_client(zoo: Path) -> Iterator[Open]:
    """Makes a client of a new service that is ready; takes settings that differ from the defaults."""
    with ExitStack() as opened:

        def make(**settings: Any) -> TestClient:
            app = create_app(Settings(**{"model_dir": [zoo], "device": "cpu", "threads": 1, **settings}))
            client = opened.enter_context(TestClient(app))
            wait_until_loaded(service(client))
            return client

        yield make


@pytest.fixture(scope="module")
def client(open_client: Open) -> TestClient:
    """A client of a service with the defaults."""
    return open_client()


@contextmanager
def running_server(zoo: Path, **settings: Any) -> Iterator[tuple[str, Service]]:
    """A server on a free port, in a thread of this process; gives host:port and its state."""
    given = {"port": 0, "model_dir": [zoo], "device": "cpu", "threads": 1, **settings}
    server = Server(Settings(**given), lambda address, service: None)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until_loaded(server.service)
        host, port = server.servers[0].sockets[0].getsockname()
        yield f"{host}:{port}", server.service
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def service(client: TestClient) -> Service:
    """The state behind a client."""
    found = client.app.state.service  # type: ignore[attr-defined]
    assert isinstance(found, Service)
    return found


def wait_until_loaded(service: Service, seconds: float = 60) -> None:
    """Return once loading is over, well or badly."""
    give_up = time.monotonic() + seconds
    while not service.registry.loaded:
        assert time.monotonic() < give_up, "the checkpoints were not loaded in time"
        time.sleep(0.01)
