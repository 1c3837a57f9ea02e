"""Sounds of many channels, with gaps, pauses and several tracks."""

import io
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from models.media import MediaLimits, MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, decode_audio, video_audio
from tests.models.media.make import clip, recorded, streamed, tone

LIMITS = MediaLimits()
DECODE = """
import sys
from models.media import MediaLimits, decode_audio
audio = decode_audio(sys.stdin.buffer.read(), MediaLimits())
print(audio.seconds, abs(audio.samples).max())
"""


def decoded_elsewhere(data: bytes) -> tuple[float, float]:
    """Seconds and peak, by a process of its own: what goes wrong here ends the whole of it."""
    ended = subprocess.run([sys.executable, "-c", DECODE], input=data, capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()[-500:]
    seconds, peak = map(float, ended.stdout.split())
    return seconds, peak


def coded(codec: str, container: str, layout: str, channels: int) -> bytes:
    """A second of a tone in as many channels."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=48_000, layout=layout)
        wave = tone(440, 1, 48_000, channels)
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts = 48_000, 0
        for piece in av.AudioResampler(stream.codec_context.format, layout, 48_000).resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize("channels", [8, 16])
def test_many_channels_in_planes_of_their_own_are_averaged(channels: int) -> None:
    layout = "7.1" if channels == 8 else f"{channels} channels"
    codec, container = ("aac", "adts") if channels == 8 else ("pcm_f32le", "matroska")
    seconds, peak = decoded_elsewhere(coded(codec, container, layout, channels))
    assert seconds == pytest.approx(1, abs=0.05)
    assert peak == pytest.approx(0.5, abs=0.05)


SURROUND = {"FL": 0.5**0.5, "FR": 0.5**0.5, "FC": 1.0, "LFE": 0.0, "BL": 0.5, "BR": 0.5}
"""What each channel of 5.1 adds to mono (ITU-R BS.775), before all of them together are made to be no more than 1."""


def surround(parts: dict[str, float], coding: str) -> bytes:
    """A second of 5.1 in which each of ``parts`` carries a tone as loud as it says."""
    wave = tone(440, 1, 48_000, 6) * np.array([parts.get(name, 0) for name in SURROUND], np.float32)
    if coding == "wav":
        file = bytearray(recorded(wave, 48_000, "WAVEX", "FLOAT"))
        at = file.index(b"fmt ") + 8 + 20
        file[at : at + 4] = struct.pack("<I", 0x3F)
        return bytes(file)
    frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="flt", layout="5.1")
    frame.sample_rate, frame.pts = 48_000, 0
    written = io.BytesIO()
    with av.open(written, "w", format="matroska") as output:
        stream: Any = output.add_stream(coding, rate=48_000, layout="5.1")
        for piece in av.AudioResampler(stream.codec_context.format, "5.1", 48_000).resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode())
    return written.getvalue()


@pytest.mark.parametrize("coding", ["wav", "flac", "ac3"])
def test_surround_sound_is_mixed_down_as_its_standard_says(coding: str) -> None:
    def loudness(parts: dict[str, float]) -> float:
        samples = decode_audio(surround(parts, coding), LIMITS).samples[4_000:12_000]
        return float(np.sqrt(2 * np.square(samples).mean()))

    # 0.5 is as loud as the tone is in each channel: all together they do not clip.
    every = dict.fromkeys(SURROUND, 1.0)
    assert loudness(every) == pytest.approx(0.5, rel=0.05)
    for name, weight in SURROUND.items():
        if weight:
            heard = {name: 1.0}
            assert loudness(heard) == pytest.approx(0.5 * weight / sum(SURROUND.values()), rel=0.1)
            # What the woofer adds is not heard beside it.
            assert loudness(heard | {"LFE": 1.0}) == pytest.approx(loudness(heard), rel=0.05)
    assert loudness({"LFE": 1.0}) > (0.05 if coding != "ac3" else 0.0)  # its coder takes what is no low frequency away


def test_a_wav_whose_loudspeakers_are_not_named_is_averaged() -> None:
    wave = tone(440, 1, 16_000, 6) * np.array([0, 0, 1, 0, 0, 0], np.float32)
    unnamed = decode_audio(recorded(wave, 16_000, "WAV", "FLOAT"), LIMITS).samples
    assert np.abs(unnamed - wave[:, 2] / 6).max() < 1e-6


def test_channels_that_are_listed_one_by_one_are_averaged() -> None:
    pcm = (np.repeat(tone(440, 1, 48_000), 8, 1) * 32_767).astype(">i2").tobytes()
    # Apple's tag of an order that FFmpeg has no name for.
    order = b"CHAN" + struct.pack(">IIII", 12, 0x00800008, 0, 0)
    common = b"COMM" + struct.pack(">IhIh", 18, 8, 48_000, 16) + b"\x40\x0e\xbb\x80" + bytes(6)
    body = b"AIFF" + order + common + b"SSND" + struct.pack(">IIi", len(pcm) + 8, 0, 0) + pcm
    seconds, peak = decoded_elsewhere(b"FORM" + struct.pack(">I", len(body)) + body)
    assert seconds == pytest.approx(1, abs=1e-3)
    assert peak == pytest.approx(0.5, abs=0.01)


def with_a_gap(data: bytes, container: str, lost: Callable[[float], bool]) -> bytes:
    """A file anew without the sound's packets that begin at a time that is ``lost``."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(file, "w", format=container) as output:
        streams: dict[int, Any] = {stream.index: output.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            assert packet.pts is not None
            if packet.stream.type == "audio" and lost(float(packet.pts * packet.time_base)):
                continue
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["matroska", "mp4", "mpegts"])
def test_silence_stands_for_packets_that_are_not_there(container: str) -> None:
    loud = np.concatenate([tone(440, 1.5, 48_000), tone(880, 1.5, 48_000)])
    data = with_a_gap(streamed(loud, 48_000, "aac", "mp4"), container, lambda begin: 0.5 <= begin < 1)
    audio = decode_audio(data, LIMITS)
    assert audio.seconds == pytest.approx(3, abs=0.06)
    strength = [float(np.abs(audio.samples[round(t * 16_000) :][:1000]).max()) for t in (0.3, 0.7, 1.2, 2.5)]
    assert strength[1] < 0.01
    assert min(strength[0], *strength[2:]) > 0.4
    # The second tone begins where it did, to a frame of the coder's.
    spectrum = [np.abs(np.fft.rfft(audio.samples[round(t * 16_000) :][:1600])).argmax() * 10 for t in (1.35, 1.6)]
    assert spectrum == [440, 880]


def test_a_gap_of_days_is_too_long_and_takes_no_memory() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        for begin in (0, 40 * 86_400 * 48_000):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 9600), np.int16), format="s16", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, begin, Fraction(1, 48_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    # The header states the length, too; what is read past it must hold by itself.
    data = file.getvalue().replace(b"\x44\x89", b"\x44\x8a")
    tracemalloc.start()
    try:
        with pytest.raises(MediaOutOfBounds, match="longer than 600 seconds"):
            decode_audio(data, LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_lips_and_sound_stay_together_over_a_gap() -> None:
    data = with_a_gap(
        clip(75, rate=25, sound=np.concatenate([tone(440, 1.5, 48_000), tone(880, 1.5, 48_000)])),
        "matroska",
        lambda begin: 0.5 <= begin < 1,
    )
    audio = video_audio(data, LIMITS)
    assert audio is not None
    spectrum = [np.abs(np.fft.rfft(audio.samples[round(t * 16_000) :][:1600])).argmax() * 10 for t in (1.35, 1.6)]
    assert spectrum == [440, 880]


@pytest.mark.parametrize("starts", [(0, 0), (0, 40), (40, 0)])
def test_of_joined_recordings_the_sound_goes_on(starts: tuple[int, int]) -> None:
    parts = [
        clip(30, "libx264", "mpegts", rate=25, sound=tone(hz, 1.2), muxing={"output_ts_offset": str(start)})
        for start, hz in zip(starts, (440, 880), strict=True)
    ]
    audio = video_audio(b"".join(parts), LIMITS)
    assert audio is not None
    assert audio.seconds == pytest.approx(2.4, abs=0.15)
    spectrum = [np.abs(np.fft.rfft(audio.samples[round(t * 16_000) :][:1600])).argmax() * 10 for t in (0.6, 1.8)]
    assert spectrum == [440, 880]


def test_pauses_that_a_telephone_leaves_out_are_heard() -> None:
    quiet = np.zeros((8000, 1), np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format="amr") as output:
        stream: Any = output.add_stream("libopencore_amrnb", rate=8000, layout="mono", options={"dtx": "1"})
        wave = np.concatenate([tone(440, 0.5, 8000), quiet, tone(440, 0.5, 8000)])
        frame = av.AudioFrame.from_ndarray((wave.T * 32_767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
        for piece in av.AudioResampler(stream.codec_context.format, "mono", 8000).resample(frame):
            output.mux(stream.encode(piece))
        output.mux(stream.encode())
    audio = decode_audio(file.getvalue(), LIMITS)
    assert audio.seconds == pytest.approx(2, abs=0.1)
    assert float(np.abs(audio.samples[12_000:20_000]).max()) < 0.1 < 0.3 < float(np.abs(audio.samples).max())


def test_the_track_that_a_player_would_play_is_heard() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        streams: list[Any] = [output.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(2)]
        streams[0].disposition, streams[1].disposition = Disposition(0), Disposition.default
        for stream, hz in zip(streams, (300, 900), strict=True):
            wave = (tone(hz, 1, 8000).T * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 8000, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode())
    audio = decode_audio(file.getvalue(), LIMITS, rate=8000)
    assert np.abs(np.fft.rfft(audio.samples[:8000])).argmax() == 900


def test_an_aiff_that_was_cut_off_is_refused() -> None:
    whole = recorded(tone(440, 1, 16_000), 16_000, "AIFF", "PCM_16")
    assert decode_audio(whole, LIMITS).seconds == 1
    with pytest.raises(UndecodableMedia, match="ends before the last of its samples"):
        decode_audio(whole[: len(whole) * 6 // 10], LIMITS)


def test_of_a_video_whose_sound_is_not_read_the_sound_is_named() -> None:
    data = clip(10, sound=tone(440), sound_codec="tta", container="matroska")
    with pytest.raises(UnsupportedMedia, match="sound of the video is coded as tta"):
        video_audio(data, LIMITS)
