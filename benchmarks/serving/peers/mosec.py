"""Mosec: one process decodes, one runs the network in dynamic batches; a request's body is the medium itself."""

from typing import Any

from mosec import Server, Worker

from benchmarks.serving.peers.work import Work, batch
from models.features import Extracted


class Prepare(Worker):
    """The stage that decodes."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def deserialize(self, data: bytes) -> bytes:
        """The body as it came."""
        return bytes(data)

    def forward(self, data: bytes) -> Extracted:
        """To tensors, which go to the next stage by pickle."""
        return self.work.prepare(data)


class Predict(Worker):
    """The stage that computes."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def forward(self, data: Any) -> Any:
        """A batch, or one where batching is off."""
        return self.work.answer([data])[0] if isinstance(data, Extracted) else self.work.answer(data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Prepare, num=1)
    server.append_worker(Predict, num=1, max_batch_size=batch, max_wait_time=5 if batch > 1 else 0)
    server.run()
