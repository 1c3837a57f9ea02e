"""The smallest media that can be posted, made on the spot: examples in the documentation that work as they stand."""

import base64
import io
import math
import wave
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from models.features import Features, Modality

TEXT = "a dog runs through the snow"
_BLUE = (36, 104, 200)
_RATE = 8000
_SIDE = 16


def sample(modality: "Modality", features: "Features") -> str:
    """What to post for a modality in a JSON body: a sentence, or a medium in base64."""
    size = getattr(features, "size", None)
    if features.type == "vectors" and isinstance(size, int):
        return coded(vectors(size))
    if modality == "text":
        return TEXT
    return coded({"image": picture, "audio": tone, "video": clip}[modality]())


@cache
def picture() -> bytes:
    """A PNG of eight by eight pixels of one blue."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8), _BLUE).save(file, "PNG")
    return file.getvalue()


@cache
def tone() -> bytes:
    """A WAV of a tenth of a second of 440 Hz."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        # Eight bits a sample are without a sign, around 128.
        sound.setsampwidth(1)
        sound.setframerate(_RATE)
        sound.writeframes(bytes(round(128 + 60 * math.sin(2 * math.pi * 440 * n / _RATE)) for n in range(_RATE // 10)))
    return file.getvalue()


@cache
def clip() -> bytes:
    """An MP4 of four frames, from dark to bright, without sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = _SIDE, _SIDE, "yuv420p"
        for light in (40, 100, 160, 220):
            grey = np.full((_SIDE, _SIDE, 3), light, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def vectors(size: int, steps: int = 2) -> bytes:
    """A NumPy file of ``steps`` vectors of zeros."""
    file = io.BytesIO()
    np.save(file, np.zeros((steps, size), np.float16))
    return file.getvalue()


def coded(data: bytes) -> str:
    """As a JSON body has it."""
    return base64.b64encode(data).decode()
