"""A server is killed amid a stream, and another one that knows nothing of it but the key goes on: no word is lost."""

import json
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.app.stream.conftest import S16, finals, pcm, server
from tests.models.streaming.sounds import babble

SIZE = 1280
SOUND = babble(12, 2)
CHUNKS = [pcm(SOUND[at : at + SIZE]) for at in range(0, len(SOUND), SIZE)]
SECONDS = 30


class Client:
    """What docs/streaming.md tells clients to do: it keeps its last state, and the chunks since."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.state: dict[str, Any] = {}
        self.sent = 0

    @contextmanager
    def connected(self, address: str) -> Iterator[ClientConnection]:
        """Begin, or go on from the state."""
        anew = {"modalities": S16, "options": {"threshold": 0.2}}
        start = {"state": self.state["state"], "received": self.received} if self.state else anew
        with connect(address, compression=None, open_timeout=SECONDS) as socket:
            socket.send(json.dumps({"type": "session.start", **start}))
            started = json.loads(socket.recv(SECONDS))
            assert started["type"] == "session.started", started
            self.sent = started["next_sequence"]
            yield socket

    @property
    def received(self) -> int:
        return max((event["event"] for event in self.heard if event["type"] == "final"), default=0)

    def send(self, socket: ClientConnection, until: int) -> None:
        """The chunks up to one."""
        while self.sent < until:
            socket.send(struct.pack("<IB3xd", self.sent, 0, 0.0) + CHUNKS[self.sent])
            self.sent += 1

    def hear(self, socket: ClientConnection, until: str) -> dict[str, Any]:
        """Take events up to the first of a kind, which is returned."""
        while (event := json.loads(socket.recv(SECONDS)))["type"] != until:
            self.heard.append(event)
        if event["type"] == "final":
            self.heard.append(event)
        return dict(event)


@pytest.mark.timeout(180)
def test_a_client_of_a_killed_server_goes_on_at_another_one(tmp_path: Path) -> None:
    with ExitStack() as servers:
        (first, one), (_, other) = (servers.enter_context(server(tmp_path / name)) for name in ("first", "second"))
        undisturbed = Client()
        with undisturbed.connected(other) as socket:
            undisturbed.send(socket, len(CHUNKS))
            socket.send('{"type":"session.end"}')
            undisturbed.hear(socket, "session.ended")
        wanted = finals(undisturbed.heard)
        assert len(wanted) > 3

        client = Client()
        with client.connected(one) as socket:
            client.send(socket, len(CHUNKS) // 3)
            socket.send('{"type":"session.export"}')
            client.state = client.hear(socket, "session.exported")
            # What is heard after the export is not to be said again, and what is sent after it has to be sent again.
            said = client.received
            client.send(socket, len(CHUNKS) // 2)
            while client.received == said:
                client.hear(socket, "final")
            client.send(socket, 2 * len(CHUNKS) // 3)
            os.kill(first.pid, signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                client.hear(socket, "session.ended")
        assert first.wait(SECONDS) == -signal.SIGKILL
        assert finals(client.heard) == wanted[: client.received]

        with client.connected(other) as socket:
            assert client.sent == client.state["next_sequence"] == len(CHUNKS) // 3
            client.send(socket, len(CHUNKS))
            socket.send('{"type":"session.end"}')
            ended = client.hear(socket, "session.ended")
        assert ended["next_sequence"] == len(CHUNKS)
        assert finals(client.heard) == wanted
        np.testing.assert_allclose(probabilities(client.heard), probabilities(undisturbed.heard), atol=1e-3)


def probabilities(events: list[dict[str, Any]]) -> list[float]:
    return [word["probability"] for event in events if event["type"] == "final" for word in event["words"]]
