"""Media that requests post, good and bad, made on the spot."""

import io
import struct
import zipfile
import zlib

import av
import numpy as np
import soundfile

from tests.support import photo


def video(frames: int = 12) -> bytes:
    """An MP4 of a photo that stands still."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        picture = np.asarray(photo())
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def video_without_frames() -> bytes:
    """An MP4 with a sound track and no picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def nan_wav() -> bytes:
    """A float WAV whose samples are not numbers."""
    file = io.BytesIO()
    soundfile.write(file, np.full(1600, np.nan, np.float32), 16000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def huge_png() -> bytes:
    """The header of a PNG of 50,000 by 50,000 pixels, and next to nothing after it."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + _chunk(b"IEND", b"")
    )


def zip_file() -> bytes:
    """An archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.jpg", b"no photo")
    return file.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
