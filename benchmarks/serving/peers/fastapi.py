"""FastAPI alone: the work in its pool of threads, the network one call at a time."""

import threading
from typing import Annotated, Any

import uvicorn
from fastapi import FastAPI, File

from benchmarks.serving.peers.work import Work, port

app = FastAPI()
work = Work()
network = threading.Lock()


@app.post("/predict")
def predict(file: Annotated[bytes, File()]) -> dict[str, Any]:
    """A ``def`` endpoint, so FastAPI runs it in a thread."""
    query = work.prepare(file)
    with network:
        return work.answer([query])[0]


if __name__ == "__main__":
    uvicorn.run(app, port=port, log_level="warning", access_log=False)
