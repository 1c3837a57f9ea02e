"""Media made for the tests: pictures, tones and clips whose content says what must come out."""

import io
import struct
import zlib
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pillow_heif
import soundfile
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]

QUADRANTS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
"""Colours of `quadrants`: top left, top right, bottom left, bottom right."""


def quadrants(height: int = 48, width: int = 64) -> Pixels:
    """Four plain colours, so that any turn or mirroring shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for index, colour in enumerate(QUADRANTS):
        row, column = divmod(index, 2)
        pixels[row * height // 2 : (row + 1) * height // 2, column * width // 2 : (column + 1) * width // 2] = colour
    return pixels


def encoded(image: Image.Image | Pixels, kind: str, **options: Any) -> bytes:
    """An image file by Pillow, or by pillow-heif where ``kind`` is HEIC."""
    file = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if kind == "HEIC":
        pillow_heif.from_pillow(picture).save(file, **options)
    else:
        picture.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG from its parts, for what Pillow does not write: any header, and chunks before the pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in chunks)


def tone(hz: float, seconds: float = 1, rate: int = 48_000, channels: int = 1) -> Samples:
    """A sine at half of full scale, float32 [N, channels]."""
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave.astype(np.float32)[:, None], channels, axis=1)


def recorded(samples: Samples, rate: int, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """A sound file by libsndfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


INDEX_FIRST = {"moov_size": "20000"}
"""Makes FFmpeg write an MP4's index before its content, which is last where the length was not known."""


def streamed(samples: Samples, rate: int, codec: str, container: str, muxing: dict[str, str] | None = None) -> bytes:
    """A sound file by FFmpeg."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=muxing or {}) as output:
        _mux_sound(output, _sound_stream(output, samples, rate, codec), samples, rate)
    return file.getvalue()


def _sound_stream(output: av.container.OutputContainer, samples: Samples, rate: int, codec: str) -> Any:
    return output.add_stream(codec, rate=rate, layout="mono" if samples.shape[1] == 1 else "stereo")


def _mux_sound(
    output: av.container.OutputContainer, stream: Any, samples: Samples, rate: int, start: Fraction = Fraction(0)
) -> None:
    resampler = av.AudioResampler(stream.codec_context.format, stream.layout, rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=stream.layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
    for piece in resampler.resample(frame):
        piece.pts = frame.pts
        output.mux(stream.encode(piece))
    output.mux(stream.encode())


def numbered(number: int, height: int = 32, width: int = 64) -> Pixels:
    """A frame of eight black or white stripes: its number in binary, which survives any coding and scaling."""
    stripes = np.array([255 if number >> bit & 1 else 0 for bit in range(8)], np.uint8)
    return np.broadcast_to(stripes.repeat(width // 8)[None, :, None], (height, width, 3)).copy()


def number(frame: Pixels) -> int:
    """The number that a frame shows."""
    stripes = np.array_split(frame.mean(axis=(0, 2)), 8)
    return sum(1 << bit for bit, stripe in enumerate(stripes) if stripe[len(stripe) // 2] > 127)


def clip(
    frames: int | list[Pixels] = 20,
    codec: str = "mpeg4",
    container: str = "mp4",
    *,
    rate: int = 10,
    times: list[int] | None = None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    turned: dict[str, Any] | None = None,
    sound: Samples | None = None,
    sound_start: Fraction = Fraction(0),
    sound_codec: str = "aac",
    space: int | None = None,
    context: dict[str, Any] | None = None,
) -> bytes:
    """A video of numbered frames, or of those given; ``times`` are milliseconds, 1 / ``rate`` apart by default.

    ``context`` is set on the coder. With ``space`` colours are coded by that standard.
    """
    pictures = [numbered(index) for index in range(frames)] if isinstance(frames, int) else frames
    file = io.BytesIO()
    with av.open(file, "w", format=container, container_options=muxing or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = {"mjpeg": "yuvj420p", "prores": "yuv422p10le", "cfhd": "yuv422p10le"}.get(codec, "yuv420p")
        stream.codec_context.time_base = Fraction(1, 1000 if times else rate)
        # A coder's slices are as many as its threads: the same clip on every machine.
        stream.codec_context.thread_count = 1
        for name, value in (context or {}).items():
            setattr(stream.codec_context, name, value)
        if turned:
            stream.set_display_rotation(**turned)
        track = None if sound is None else _sound_stream(output, sound, 48_000, sound_codec)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if space is not None:
                frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=space)
            frame.pts = times[index] if times else index
            frame.time_base = stream.codec_context.time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound is not None:
            _mux_sound(output, track, sound, 48_000, sound_start)
    return file.getvalue()
