"""A tiny network that embeds images and text, and small films to search."""

import io
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from app.search.moments import Annotator, Moment, Vector
from models.checkpoint import save_checkpoint
from models.config import CheckpointConfig
from models.features import Modality
from models.media.limits import MediaLimits
from models.network import FusionRNN
from tests.support import tiny_tokenizer

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 40), (30, 40, 200)


def tiny_embedder(folder: Path, name: str = "image-text-embedding", seed: int = 0, *, reads: bool = True) -> Path:
    """Save a checkpoint with random weights, which ``reads`` words or ready vectors."""
    words = {"type": "text-rnn", "vocabulary": tiny_tokenizer().size, "embedding": 6, "hidden": 8}
    tokens = {"type": "tokens", "max_tokens": 16}
    config = CheckpointConfig.model_validate(
        {
            "name": name,
            "version": "0.0.1",
            "task": "embedding",
            "description": "Random weights, for tests.",
            "modalities": {
                "image": {"features": {"type": "pixels", "size": 32}},
                "text": {"features": tokens if reads else {"type": "vectors", "size": 3}},
            },
            "network": {
                "encoders": {
                    "image": {"type": "image-small", "channels": [8, 8], "width": 16},
                    "text": words if reads else {"type": "vectors-mean", "size": 3, "width": 8},
                },
                "fusion": {"type": "concat", "width": 8},
                "head": {"type": "embedding", "size": 8},
            },
        }
    )
    torch.manual_seed(seed)
    save_checkpoint(folder, config, FusionRNN(config.network), tiny_tokenizer() if reads else None)
    return folder


def moment_of(annotator: Annotator, photo: bytes) -> Moment:
    """The moment of a photo that is looked at alone."""
    (moment,) = annotator.moments([(None, seen) for _, seen in annotator.pictures(photo, MediaLimits())])
    return moment


def asked_for(annotator: Annotator, part: Modality, medium: bytes | str) -> Vector:
    """The vector of a query."""
    return annotator.query_vector(annotator.query({part: [medium]}, MediaLimits()).answer())


def likeness(annotator: Annotator, photo: bytes) -> float:
    """The score of a photo that is searched by itself."""
    return float(asked_for(annotator, "image", photo) @ moment_of(annotator, photo).vector)


def picture(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    """A picture of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(file, kind)
    return file.getvalue()


def film(*colours: tuple[int, int, int], rate: int = 4) -> bytes:
    """A film that shows each colour for a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in colours:
            for _ in range(rate):
                frame = np.full((48, 64, 3), colour, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()
