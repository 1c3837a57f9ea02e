"""Ray Serve: one replica, decoding in threads, ``serve.batch`` before the network."""

import asyncio
import signal
from typing import Any

import ray
from ray import serve
from starlette.datastructures import UploadFile
from starlette.requests import Request

from benchmarks.serving.peers.work import FIELD, Work, batch, port
from models.features import Extracted


@serve.deployment(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 1})
class Predictor:
    """Answers with one call for each batch."""

    def __init__(self) -> None:
        self.work = Work()

    @serve.batch(max_batch_size=batch, batch_wait_timeout_s=0.005 if batch > 1 else 0.0)
    async def answer(self, waiting: list[Extracted]) -> list[dict[str, Any]]:
        """A batch, off the event loop."""
        return await asyncio.to_thread(self.work.answer, waiting)

    async def __call__(self, request: Request) -> Any:
        """Decode off the event loop, then wait for a batch."""
        async with request.form() as form:
            file = form[FIELD]
            assert isinstance(file, UploadFile)
            data = await file.read()
        return await self.answer(await asyncio.to_thread(self.work.prepare, data))


if __name__ == "__main__":
    # The raylet believes that there are cores for the proxy, the controller and the replica; all share the server's.
    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    predictor: Any = Predictor
    serve.run(predictor.bind(), route_prefix="/predict")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()
