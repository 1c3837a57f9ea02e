"""Sound files of phones, old workstations and studios, and such as were never finished."""

import io
import struct

import av
import numpy as np
import pytest

from models.media import MediaLimits, UndecodableMedia, decode_audio, sniff
from tests.models.media.make import recorded, streamed, tone

LIMITS = MediaLimits()
WAVE = tone(440, 1, 16_000)


@pytest.mark.parametrize(
    ("kind", "coding", "name", "error"),
    [
        ("CAF", "PCM_16", "CAF", 1e-4),
        ("CAF", "FLOAT", "CAF", 1e-6),
        ("CAF", "ALAC_16", "CAF", 1e-4),
        ("AU", "PCM_16", "AU", 1e-4),
        ("AU", "ULAW", "AU", 0.02),
        ("W64", "PCM_24", "Wave64", 1e-5),
    ],
)
def test_sounds_of_phones_and_studios_give_their_samples(kind: str, coding: str, name: str, error: float) -> None:
    file = recorded(WAVE, 16_000, kind, coding)
    found = sniff(file)
    assert found is not None
    assert (found.name, found.modalities) == (name, frozenset({"audio"}))
    samples = decode_audio(file, LIMITS).samples[: len(WAVE)]
    assert np.abs(samples - WAVE[:, 0])[:15_000].max() < error


def caf(kind: bytes, frames: int, cookie: bytes, packets: list[bytes], rate: int = 48_000) -> bytes:
    """A CAF of packets of any length, which FFmpeg does not write: ``frames`` samples each."""
    about = struct.pack(">d4sIIIII", rate, kind, 0, 0, frames, 1, 0)
    sizes = b"".join(bytes([len(each) >> 7 | 0x80, len(each) & 127]) for each in packets)
    table = struct.pack(">qqii", len(packets), len(packets) * frames, 0, 0) + sizes
    parts = [(b"desc", about), (b"kuki", cookie), (b"pakt", table), (b"data", bytes(4) + b"".join(packets))]
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">q", len(body)) + body for name, body in parts)


def described(tag: int, body: bytes) -> bytes:
    """A descriptor of MPEG-4 with its length in four bytes, as Apple writes them."""
    return bytes([tag, 0x80, 0x80, 0x80, len(body)]) + body


@pytest.mark.parametrize("codec", ["aac", "libopus"])
def test_what_a_phone_writes_into_a_caf_is_read(codec: str) -> None:
    with av.open(io.BytesIO(streamed(tone(440, 1), 48_000, codec, "matroska")), "r") as source:
        setup = source.streams.audio[0].codec_context.extradata or b""
        packets = [bytes(packet) for packet in source.demux() if packet.size]
    coding = described(4, b"\x40\x15" + bytes(11) + described(5, setup))
    cookie = described(3, bytes(3) + coding) if codec == "aac" else setup
    file = caf(*((b"aac ", 1024) if codec == "aac" else (b"opus", 960)), cookie, packets)
    audio = decode_audio(file, LIMITS)
    assert audio.seconds == pytest.approx(1, abs=0.06)
    assert np.sqrt(np.square(audio.samples[4_000:12_000]).mean()) == pytest.approx(0.5 / 2**0.5, abs=0.02)
    with pytest.raises(UndecodableMedia, match="ends before the last"):
        decode_audio(file[:-100], LIMITS)


def test_the_last_samples_of_a_lossless_caf_are_there() -> None:
    file = recorded(WAVE, 16_000, "CAF", "ALAC_16")
    assert np.abs(decode_audio(file, LIMITS).samples - WAVE[:, 0]).max() < 1e-4


@pytest.mark.parametrize("kind", ["CAF", "AU", "W64", "RF64"])
def test_one_that_was_cut_off_is_refused(kind: str) -> None:
    file = recorded(WAVE, 16_000, kind, "PCM_16")
    with pytest.raises(UndecodableMedia, match="ends before the last of its samples"):
        decode_audio(file[: len(file) * 6 // 10], LIMITS)


@pytest.mark.parametrize(("kind", "mark", "size"), [("CAF", b"data", 8), ("AU", b".snd", 4)])
def test_one_that_was_streamed_need_not_know_its_length(kind: str, mark: bytes, size: int) -> None:
    file = bytearray(recorded(WAVE, 16_000, kind, "PCM_16"))
    at = file.index(mark) + (8 if kind == "AU" else 4)
    file[at : at + size] = b"\xff" * size
    assert decode_audio(bytes(file), LIMITS).seconds == pytest.approx(1, abs=0.01)
    assert decode_audio(bytes(file[: len(file) // 2]), LIMITS).seconds == pytest.approx(0.5, abs=0.2)


def test_a_caf_cannot_promise_more_packets_than_it_has() -> None:
    file = bytearray(recorded(WAVE, 16_000, "CAF", "ALAC_16"))
    at = file.index(b"pakt") + 12
    file[at : at + 8] = struct.pack(">q", 2**26)
    with pytest.raises(UndecodableMedia):
        decode_audio(bytes(file), LIMITS)


@pytest.mark.parametrize("coding", ["VORBIS", "OPUS"])
def test_an_ogg_that_lost_its_end_gives_what_came(coding: str) -> None:
    """An Ogg says nowhere how long it is, so that one cut off is as good as one whose recorder was stopped."""
    noise = np.random.default_rng(0).normal(0, 0.1, (192_000, 1)).astype(np.float32)
    whole = recorded(noise, 48_000, "OGG", coding)
    for kept in (0.5, 0.8):
        audio = decode_audio(whole[: round(kept * len(whole))], LIMITS)
        assert 4 * kept - 1.1 < audio.seconds < 4 * kept + 0.1


def without_length(file: bytes) -> bytearray:
    """A WAV whose samples have the length 0."""
    unfinished = bytearray(file)
    at = unfinished.index(b"data") + 4
    unfinished[at : at + 4] = bytes(4)
    return unfinished


@pytest.mark.parametrize("content", ["noise", "tone", "silence"])
def test_samples_under_no_length_are_read_whatever_a_wav_says_of_its_own(content: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, WAVE.shape).astype(np.float32)
    wave = {"noise": noise, "tone": WAVE, "silence": 0 * WAVE}[content]
    assert decode_audio(bytes(without_length(recorded(wave, 16_000))), LIMITS).seconds == 1


def test_the_samples_of_an_unfinished_wav_are_not_sought_in_its_notes() -> None:
    note = b"LIST" + struct.pack("<I", 20) + b"INFOINAM" + struct.pack("<I", 8) + b"data" + bytes(4)
    file = without_length(recorded(WAVE, 16_000))
    file[4:8] = bytes(4)
    assert decode_audio(bytes(file[:12] + note + file[12:]), LIMITS).seconds == 1
