"""LitServe: a ``LitAPI`` that decodes, batches and predicts in one worker."""

from collections.abc import Sequence
from typing import Any

import litserve as ls
from fastapi import Request

from benchmarks.serving.peers.work import FIELD, Work, batch, port
from models.features import Extracted


class Predictor(ls.LitAPI):
    """Answers with one call for each batch."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load, in the worker."""
        self.work = Work()

    def decode_request(self, request: Request) -> Extracted:
        """The posted file to tensors."""
        data: bytes = request[FIELD].file.read()
        return self.work.prepare(data)

    def batch(self, inputs: Sequence[Extracted]) -> Sequence[Extracted]:
        """As they are: the pipeline pads them."""
        return inputs

    def predict(self, x: Any) -> Any:
        """A batch, or one where batching is off."""
        return self.work.answer([x])[0] if isinstance(x, Extracted) else self.work.answer(x)

    def unbatch(self, output: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """One answer a request."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """JSON as it is."""
        return output


if __name__ == "__main__":
    api = Predictor(max_batch_size=batch, batch_timeout=0.005 if batch > 1 else 0.0)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
