"""Clients that leave at any moment, thousands of them: the others get their own right answers, and nothing is kept."""

import asyncio
import base64
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from app.engine.service import Service
from app.main import create_app
from app.settings import Settings
from models.checkpoint import save_checkpoint
from tests.models.tasks.checkpoints import checkpoint, described
from tests.support import ENGLISH, encoded_photo, tiny_captioner, tiny_tokenizer

REQUESTS = 2000
TOGETHER = 48


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A captioner, and a classifier of texts whose answers are batched."""
    root = tmp_path_factory.mktemp("zoo")
    tiny_captioner(root / "captioner")
    config = described("classification", {"type": "classification", "classes": 3}, "text", labels=["a", "b", "c"])
    save_checkpoint(root / "classifier", config, checkpoint(config, loud=5).network, tiny_tokenizer())
    return root


class Client:
    """One request over ASGI; ``leaves`` seconds after it began, its client is gone, if it ever is."""

    def __init__(
        self, model: str, fields: dict[str, Any], *, events: bool = False, leaves: float | None = None
    ) -> None:
        body = json.dumps(fields).encode()
        middle = len(body) // 2
        self.chunks = [(body[:middle], True), (body[middle:], False)]
        headers = {"host": "test", "content-type": "application/json", "content-length": str(len(body))}
        if events:
            headers["accept"] = "text/event-stream"
        self.scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": "POST", "scheme": "http", "path": f"/v1/models/{model}/predict", "raw_path": b"",
            "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        self.leaves = leaves
        self.status = 0
        self.body = b""
        self._over = asyncio.Event()

    async def run(self, app: Any) -> "Client":
        """Send it, and wait for the application to be done with it."""
        if self.leaves is not None:
            asyncio.get_running_loop().call_later(self.leaves, self._over.set)
        await app(self.scope, self._receive, self._send)
        return self

    @property
    def answer(self) -> Any:
        """What the answer says, without what is every request's own."""
        said = json.loads(self.body)
        return {key: value for key, value in said.items() if key != "id"}

    async def _receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.chunks and not self._over.is_set():
            chunk, more = self.chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": more}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        # As servers do: whatever is sent to a client that left is dropped.
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not self._over.is_set():
            self.body += message.get("body", b"")


def kinds() -> list[tuple[str, dict[str, Any]]]:
    chance = random.Random(1)
    texts = [" ".join(chance.choices(ENGLISH, k=chance.randint(1, 14))) for _ in range(6)]
    photo = base64.b64encode(encoded_photo()).decode()
    captions: list[dict[str, Any]] = [{"beam_size": 1}, {"language": "zh", "num_captions": 2}]
    return [("classification", {"text": text}) for text in texts] + [
        ("captioner", {"image": photo, **options}) for options in captions
    ]


async def scenario(root: Path) -> None:
    settings = Settings(model_dir=[root], device="cpu", threads=1, max_waiting=1000, max_waiting_seconds=1000)
    app = create_app(settings)
    service: Service = app.state.service
    async with app.router.lifespan_context(app):
        assert service.loading is not None
        await service.loading
        assert not service.registry.failed
        asked = kinds()
        wanted = [(await Client(*kind).run(app)).answer for kind in asked]
        chance = random.Random(0)
        stayed = left = 0

        async def one() -> None:
            nonlocal stayed, left
            index = chance.choices(range(len(asked)), [6] * 6 + [1] * 2)[0]
            leaves = chance.choice([None, 0.0, chance.uniform(0, 0.01), chance.uniform(0, 0.1)])
            events = leaves is not None and chance.random() < 0.3
            client = await Client(*asked[index], events=events, leaves=leaves).run(app)
            if leaves is None:
                assert client.status == 200
                assert close(client.answer, wanted[index])
                stayed += 1
            else:
                assert client.status in (0, 200)
                left += 1

        async def several(count: int) -> None:
            for _ in range(count):
                await one()

        await asyncio.gather(*(several(REQUESTS // TOGETHER) for _ in range(TOGETHER)))
        assert stayed > REQUESTS / 8
        assert left > REQUESTS / 2
        admission = service.admission
        give_up = time.monotonic() + 10
        while "fusionrnn_searches 0.0" not in service.metrics.text().decode() or admission.reservations:
            assert time.monotonic() < give_up, "something of a client that left is still there"
            await asyncio.sleep(0.01)
        assert (admission.nbytes, admission.steps) == (0, 0)
        told = service.metrics.text().decode()
        assert "fusionrnn_waiting_requests 0.0" in told
        assert 'fusionrnn_evicted_total{reason="left"}' in told
        assert 'status="499"' in told
        assert 'status="500"' not in told


def close(one: Any, other: Any) -> bool:
    """Equal but for the last digits, which depend on the batch."""
    if isinstance(one, dict):
        return bool(one.keys() == other.keys()) and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return bool(abs(one - other) < 2e-4)
    return bool(one == other)


def test_thousands_that_leave_at_random_harm_nobody_and_leave_nothing_behind(root: Path) -> None:
    asyncio.run(scenario(root))
