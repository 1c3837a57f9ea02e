"""Damaged files, found by chance: each gives a result or a `MediaError`, soon, and leaves no trace."""

import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.media import MediaError, MediaLimits, decode_audio, decode_image, decode_text, decode_video, video_audio
from tests.models.media.make import clip, encoded, quadrants, recorded, streamed, tone

LIMITS = MediaLimits(
    image_pixels=1_000_000, audio_seconds=5, video_seconds=10, video_pixels=640 * 480, video_frames=100
)

Decoder = Callable[[bytes], object]


def image(data: bytes) -> object:
    return decode_image(data, LIMITS, target=16)


def audio(data: bytes) -> object:
    return decode_audio(data, LIMITS)


def video(data: bytes) -> object:
    return decode_video(data, LIMITS, count=3, target=16), video_audio(data, LIMITS)


def text(data: bytes) -> object:
    return decode_text(data, LIMITS)


def exif() -> Image.Exif:
    orientation = Image.Exif()
    orientation[0x0112] = 6
    return orientation


WAVE = tone(440, 0.2)
FILES: dict[str, tuple[Decoder, bytes]] = {
    "jpeg": (image, encoded(quadrants(), "JPEG", exif=exif())),
    "progressive jpeg": (image, encoded(quadrants(), "JPEG", progressive=True)),
    "cmyk jpeg": (image, encoded(Image.fromarray(quadrants()).convert("CMYK"), "JPEG")),
    "png": (image, encoded(Image.fromarray(quadrants()).convert("RGBA"), "PNG")),
    "palette png": (image, encoded(Image.fromarray(quadrants()).convert("P"), "PNG", transparency=0)),
    "webp": (image, encoded(quadrants(), "WebP", exif=exif())),
    "gif": (image, encoded(quadrants(), "GIF")),
    "bmp": (image, encoded(quadrants(), "BMP")),
    "tiff": (image, encoded(quadrants(), "TIFF", exif=exif())),
    "lzw tiff": (image, encoded(quadrants(), "TIFF", compression="tiff_lzw")),
    "avif": (image, encoded(quadrants(), "AVIF")),
    "heic": (image, encoded(Image.fromarray(quadrants()).convert("RGBA"), "HEIC")),
    "tiled heic": (image, encoded(quadrants(), "HEIC", tile_size=32)),
    "wav": (audio, recorded(WAVE, 48_000)),
    "float wav": (audio, recorded(WAVE, 48_000, "WAV", "FLOAT")),
    "adpcm wav": (audio, recorded(WAVE, 48_000, "WAV", "IMA_ADPCM")),
    "flac": (audio, recorded(WAVE, 48_000, "FLAC")),
    "vorbis": (audio, recorded(WAVE, 48_000, "OGG", "VORBIS")),
    "opus": (audio, recorded(WAVE, 48_000, "OGG", "OPUS")),
    "mp3": (audio, recorded(WAVE, 48_000, "MP3")),
    "aiff": (audio, recorded(WAVE, 48_000, "AIFF")),
    "caf": (audio, recorded(WAVE, 48_000, "CAF", "ALAC_16")),
    "au": (audio, recorded(WAVE, 48_000, "AU", "PCM_16")),
    "wave64": (audio, recorded(WAVE, 48_000, "W64", "PCM_16")),
    "amr": (audio, streamed(WAVE[::6], 8_000, "libopencore_amrnb", "amr")),
    "cut mp3": (audio, streamed(WAVE, 48_000, "libmp3lame", "mp3")[700:]),
    "m4a": (audio, streamed(WAVE, 48_000, "aac", "ipod")),
    "aac": (audio, streamed(WAVE, 48_000, "aac", "adts")),
    "webm sound": (audio, streamed(WAVE, 48_000, "libopus", "webm")),
    "mp4": (video, clip(12, "libx264", sound=WAVE, options={"g": "5"})),
    "fragmented mp4": (video, clip(12, "mpeg4", muxing={"movflags": "frag_keyframe+empty_moov"})),
    "mov": (video, clip(12, "mpeg4", "mov", turned={"degrees": 90})),
    "webm": (video, clip(12, "libvpx", "webm", sound=WAVE, sound_codec="libopus")),
    "vp9 webm": (video, clip(12, "libvpx-vp9", "webm")),
    "matroska": (video, clip(12, "libx264", "matroska")),
    "avi": (video, clip(12, "mpeg4", "avi", options={"bf": "2"})),
    "h264 avi": (video, clip(12, "libx264", "avi")),
    "mpeg": (video, clip(12, "mpeg1video", "mpeg", rate=25)),
    "mpeg-ts": (video, clip(12, "mpeg2video", "mpegts", rate=25)),
    "text": (text, "a dog 一只狗 👩‍👩‍👧".encode()),
}


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Overwrites, removes or repeats a few stretches, mostly near the start, where the headers are; then maybe cuts."""
    where = st.one_of(st.floats(0, 1), st.floats(0, 0.1))
    what = st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff"]))
    edits = draw(st.lists(st.tuples(where, st.sampled_from(["write", "drop", "repeat"]), what), min_size=1, max_size=6))
    kept = draw(st.one_of(st.just(1.0), st.floats(0, 1)))

    def apply(file: bytes) -> bytes:
        data = bytearray(file)
        for place, kind, content in edits:
            at = int(place * len(data))
            if kind == "write":
                data[at : at + len(content)] = content
            elif kind == "drop":
                del data[at : at + 8 * len(content)]
            else:
                data[at:at] = data[at : at + 8 * len(content)]
        return bytes(data[: int(kept * len(data))])

    return apply


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=60, deadline=2_000, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(damaged=damage())
def test_a_damaged_file_gives_a_result_or_a_reason(name: str, damaged: Callable[[bytes], bytes]) -> None:
    decode, file = FILES[name]
    with suppress(MediaError):
        decode(damaged(file))


SILENT = """
import sys
from contextlib import suppress
from pathlib import Path
import numpy as np
from models.media import *
for file in Path(sys.argv[1]).iterdir():
    for seed in range(40):
        data = bytearray(file.read_bytes())
        random = np.random.default_rng(seed)
        for _ in range(4):
            data[random.integers(16, len(data))] = random.integers(256)
        for decode in (decode_image, decode_audio, lambda data, limits: decode_video(data, limits, count=2)):
            with suppress(MediaError):
                decode(bytes(data), MediaLimits())
"""


def test_damaged_files_write_nothing_to_the_log(tmp_path: Path) -> None:
    """Neither Python's warnings nor the codecs' own printing reach stderr, where a client could fill a disk."""
    for name, (_, file) in FILES.items():
        if name not in ("lzw tiff", "text"):  # libtiff prints one line of its own
            (tmp_path / name).write_bytes(file)
    (tmp_path / "exif").write_bytes(encoded(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12"))
    command = [sys.executable, "-W", "always", "-c", SILENT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_decoders_do_not_disturb_one_another() -> None:
    names = ["jpeg", "tiff", "flac", "m4a", "mp4", "webm", "avi"]
    alone = {name: FILES[name][0](FILES[name][1]) for name in names}
    wrong: list[str] = []

    def work(order: list[str]) -> None:
        wrong.extend(name for name in order * 3 if not same(FILES[name][0](FILES[name][1]), alone[name]))

    workers = [threading.Thread(target=work, args=(names[first:] + names[:first],)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def same(one: Any, other: Any) -> bool:
    if isinstance(one, tuple):
        return all(same(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    fields = getattr(one, "__slots__", ())
    return all(same(getattr(one, field), getattr(other, field)) for field in fields) if fields else bool(one == other)
