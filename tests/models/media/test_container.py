import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.media import MediaLimits, MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, decode_audio, decode_video
from tests.models.media.make import clip, streamed, tone

LIMITS = MediaLimits()


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def promising(table: bytes) -> bytes:
    """An MP4 of little more than one table of samples."""
    movie = box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table)))))
    return box(b"ftyp", b"isom\0\0\0\0isom") + movie + box(b"mdat", bytes(100))


@pytest.mark.parametrize(
    "table", [box(b"stsz", struct.pack(">III", 0, 1, 50_000_000)), box(b"trun", struct.pack(">II", 0, 50_000_000))]
)
def test_a_table_cannot_promise_more_samples_than_the_file_could_hold(table: bytes) -> None:
    with pytest.raises(MediaOutOfBounds, match="promises 50000000 samples"):
        decode_video(promising(table), LIMITS, count=1)


def test_pictures_and_sound_that_look_like_a_table_are_no_harm() -> None:
    data = bytearray(clip(20))
    start = data.index(b"mdat") + 4
    data[start + 40 : start + 56] = b"stsz" + struct.pack(">III", 0, 1, 50_000_000)
    assert len(decode_video(bytes(data), LIMITS, count=2).frames) == 2


def test_uncompressed_sound_in_a_movie_has_as_many_samples_as_it_says() -> None:
    assert decode_audio(streamed(tone(440, 2), 48_000, "pcm_u8", "mov"), LIMITS).seconds == pytest.approx(2)


def test_a_compressed_header_is_refused_as_it_could_hide_a_table() -> None:
    with pytest.raises(UnsupportedMedia, match="compressed header"):
        decode_video(promising(box(b"cmvd", bytes(8))), LIMITS, count=1)


def test_an_avis_tags_cannot_be_larger_than_the_file() -> None:
    file = bytearray(clip(3, container="avi"))
    at = file.index(b"INFO") - 4
    file[at : at + 4] = (2**30).to_bytes(4, "little")
    with pytest.raises(UndecodableMedia, match="larger than itself"):
        decode_video(bytes(file), LIMITS, count=1)


GROWTH = """
import sys
from pathlib import Path
from models.media import *

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024

file = Path(sys.argv[1]).read_bytes()
before = peak()
try:
    decode_video(file, MediaLimits(), count=1)
except MediaOutOfBounds:
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_opening_a_stream_of_huge_frames_makes_none(tmp_path: Path) -> None:
    """A transport stream has no header, so FFmpeg decodes to learn the size of its frames."""
    black = np.zeros((4096, 8192, 3), np.uint8)
    (tmp_path / "file").write_bytes(clip([black] * 2, "libx264", "mpegts", options={"preset": "ultrafast"}))
    command = [sys.executable, "-c", GROWTH, str(tmp_path / "file")]
    megabytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert megabytes < 48  # one frame


def test_decoders_that_nobody_needs_are_not_used() -> None:
    with pytest.raises(UnsupportedMedia, match="coded as cfhd"):
        decode_video(clip(2, "cfhd", "mov"), LIMITS, count=1)


@pytest.mark.parametrize("playlist", [b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", b"ffconcat version 1.0\nfile a.mp4\n"])
def test_a_playlist_opens_no_file(playlist: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match="plain text"):
        decode_video(playlist, LIMITS, count=1)
