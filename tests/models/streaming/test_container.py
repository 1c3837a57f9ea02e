"""Sound in a container that grows chunk by chunk is what the whole file would be; damage is told of."""

import io
import threading
import time
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.media import MediaLimits
from models.media.audio import decode_audio
from models.media.samples import frame_samples
from models.streaming import container
from models.streaming.container import Coded, CodedReader, _Pipe
from models.streaming.errors import BadChunk, Busy
from tests.models.streaming.sounds import tones

NAMES = ["ogg", "webm"]


def coded(name: str, seconds: float = 2.0) -> bytes:
    """Opus in a container, written as to a pipe: nothing in it is mended afterwards."""
    file = io.BytesIO()
    with av.open(file, "w", format=name, options={"live": "1"} if name == "webm" else {}) as made:
        stream = made.add_stream("libopus", rate=48_000, layout="mono")
        samples = np.repeat(tones(seconds), 3)
        for at in range(0, len(samples), 960):
            frame = av.AudioFrame.from_ndarray(samples[None, at : at + 960], format="flt", layout="mono")
            frame.sample_rate, frame.pts = 48_000, at
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
    return file.getvalue()


FILES = {name: coded(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=4))
def test_streamed_is_whole(name: str, sizes: list[int]) -> None:
    data = FILES[name]
    # One byte at a time is as good a test at the beginning, where the header is.
    sizes = [*sizes, 700] if max(sizes) < 100 else sizes
    reader = CodedReader(Coded(encoding=name), 16_000)  # type: ignore[arg-type]
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(reader.read(data[at : at + size])[0])
        at, turn = at + size, turn + 1
    pieces.append(reader.finish(last=True))
    found = np.concatenate(pieces)
    wanted = decode_audio(data, MediaLimits()).samples
    assert abs(len(found) - len(wanted)) <= 1
    same = min(len(found), len(wanted))
    np.testing.assert_allclose(found[:same], wanted[:same], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_sound_comes_out_as_it_goes_in(name: str) -> None:
    data = FILES[name]
    reader = CodedReader(Coded(encoding=name), 16_000)  # type: ignore[arg-type]
    early = reader.read(data[: len(data) // 2])[0]
    reader.close()
    assert len(early) > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_such_file_is_told(name: str) -> None:
    for garbage in (b"\0" * 5_000, np.random.default_rng(0).bytes(20_000), b"RIFF" + b"x" * 5_000):
        reader = CodedReader(Coded(encoding=name), 16_000)  # type: ignore[arg-type]
        with pytest.raises(BadChunk, match="sound"):
            np.concatenate([reader.read(garbage)[0], reader.finish(last=True)])


def test_damage_within_is_a_click_or_told() -> None:
    chance = np.random.default_rng(0)
    for name in NAMES:
        for _ in range(15):
            data = bytearray(FILES[name])
            for place in chance.integers(0, len(data), 5):
                data[place] ^= int(chance.integers(1, 256))
            reader = CodedReader(Coded(encoding=name), 16_000)  # type: ignore[arg-type]
            try:
                for at in range(0, len(data), 1_000):
                    assert np.isfinite(reader.read(bytes(data[at : at + 1_000]))[0]).all()
                reader.finish(last=True)
            except BadChunk:
                pass
            finally:
                reader.close()


def test_threads_end_with_their_sessions() -> None:
    before = threading.active_count()
    readers = [CodedReader(Coded(encoding="ogg"), 16_000) for _ in range(20)]
    for reader in readers:
        reader.read(FILES["ogg"][:500])
    assert threading.active_count() >= before + 20
    for reader in readers:
        reader.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def flac(rate: int, layout: str, seconds: float) -> bytes:
    """Silence: so little of it fills a chunk that a chunk could stand for gigabytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as made:
        stream = made.add_stream("flac", rate=rate, layout=layout, format="s16")
        size = 4608
        for at in range(0, int(rate * seconds), size):
            frame = av.AudioFrame(format="s16", layout=layout, samples=size)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            frame.sample_rate, frame.pts = rate, at
            made.mux(stream.encode(frame))
        made.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize(
    ("rate", "layout", "seconds", "said"),
    [
        (384_000, "mono", 0.1, "a sample rate of 384000 Hz, and those of 8000, .*, 192000 Hz are read"),
        (10_000, "mono", 0.1, "a sample rate of 10000 Hz"),
        (192_000, "7.1", 5, "more than 5760000 samples"),
        (48_000, "mono", 65, "more than 60 seconds"),
    ],
)
def test_a_chunk_that_promises_too_much_is_refused(rate: int, layout: str, seconds: float, said: str) -> None:
    reader = CodedReader(Coded(encoding="ogg"), 16_000)
    with pytest.raises(BadChunk, match=said):
        reader.read(flac(rate, layout, seconds))


def test_a_thread_that_does_not_start_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_THREADS", threading.BoundedSemaphore(1))
    reader = CodedReader(Coded(encoding="ogg"), 16_000)
    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("no thread")))
        with pytest.raises(Busy, match="no thread left"):
            reader.read(FILES["ogg"])
    reader.read(FILES["ogg"])
    reader.close()
    for thread in threading.enumerate():
        if thread.name == "container":
            thread.join()


def test_sound_of_too_many_channels_is_refused() -> None:
    pipe = _Pipe(lambda _: np.zeros(0, np.float32))
    frame = av.AudioFrame(format="fltp", layout="7.1.2", samples=16)
    frame.sample_rate = 48_000
    with pytest.raises(BadChunk, match="10 channels, and 8 are the most"):
        pipe.put(frame)


def test_a_frame_is_gone_before_the_next_one_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 192 kHz, 3 s of eight channels are 18 MB, and what is heard of it 0.2 MB."""
    order = ""
    put = _Pipe.put

    def decoded(pipe: _Pipe, frame: av.AudioFrame) -> None:
        nonlocal order
        order += "d"
        put(pipe, frame)

    def heard(frame: av.AudioFrame) -> tuple[int, Any]:
        nonlocal order
        order += "h"
        return frame_samples(frame)

    monkeypatch.setattr(_Pipe, "put", decoded)
    monkeypatch.setattr(container, "frame_samples", heard)
    reader = CodedReader(Coded(encoding="ogg"), 16_000)
    found = reader.read(flac(192_000, "7.1", 3))[0]
    reader.close()
    assert len(found) == pytest.approx(48_000, abs=2000)
    assert order == "dh" * (len(order) // 2)
    assert len(order) > 60
