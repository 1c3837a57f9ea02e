import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.media import MediaLimits, UnsupportedMedia, decode_audio, decode_image, decode_video, sniff
from tests.models.media.make import clip, encoded, quadrants, recorded, streamed, tone

WAVE = tone(440, 0.1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC"])
def test_images_are_recognized(kind: str) -> None:
    found = sniff(encoded(quadrants(), kind))
    assert found is not None
    assert (found.name, found.modalities) == (kind, frozenset({"image"}))


@pytest.mark.parametrize("size", [56, 64])
def test_a_bmp_may_have_a_header_of_any_version(size: int) -> None:
    usual = encoded(quadrants(), "BMP")
    starts = struct.pack("<II", 54 + size - 40, size)
    pixels = decode_image(usual[:10] + starts + usual[18:54] + bytes(size - 40) + usual[54:], MediaLimits())
    assert np.array_equal(pixels, quadrants())


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (recorded(WAVE, 48_000, "WAV"), "WAV"),
        (recorded(WAVE, 48_000, "WAVEX"), "WAV"),
        (recorded(WAVE, 48_000, "RF64"), "WAV"),
        (recorded(WAVE, 48_000, "FLAC"), "FLAC"),
        (b"ID3\4\0\0\0\0\0\7" + bytes(7) + recorded(WAVE, 48_000, "FLAC"), "FLAC"),
        (recorded(WAVE, 48_000, "MP3"), "MP3"),
        (recorded(WAVE, 48_000, "OGG", "VORBIS"), "Ogg"),
        (recorded(WAVE, 48_000, "OGG", "OPUS"), "Ogg"),
        (streamed(WAVE, 48_000, "libmp3lame", "mp3"), "MP3"),
        (recorded(WAVE, 48_000, "AIFF", "PCM_24"), "AIFF"),
        (recorded(WAVE, 48_000, "AIFF", "FLOAT"), "AIFF"),
        (streamed(tone(440, 0.5, 8_000), 8_000, "libopencore_amrnb", "amr"), "AMR"),
        (streamed(WAVE, 48_000, "aac", "adts"), "AAC"),
        (b"ID3\4\0\0\0\0\0\7" + bytes(7) + streamed(WAVE, 48_000, "aac", "adts"), "AAC"),
        (streamed(WAVE, 48_000, "aac", "ipod"), "M4A"),
    ],
)
def test_sounds_are_recognized(data: bytes, name: str) -> None:
    found = sniff(data)
    assert found is not None
    assert (found.name, found.modalities) == (name, frozenset({"audio"}))


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_that_was_cut_out_of_a_longer_one_is_recognized(rate: int, channels: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (4 * rate, channels)).astype(np.float32)
    whole = streamed(noise, rate, "libmp3lame", "mp3")
    for start in range(300, 1500, 77):
        found = sniff(whole[start:])
        assert found is not None
        assert found.name == "MP3"
    seconds = decode_audio(whole[1000:], MediaLimits()).seconds
    assert 3 < seconds < 4.2


@pytest.mark.parametrize("lost", [1, 100, 777])
@pytest.mark.parametrize("before", [b"", bytes(500), b"ID3\4\0\0\0\0\0\7" + bytes(7)], ids=["", "zeros", "tag"])
def test_aac_that_was_cut_out_of_a_longer_one_is_read(lost: int, before: bytes) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (96_000, 1)).astype(np.float32)
    file = before + streamed(noise, 48_000, "aac", "adts")[lost:]
    found = sniff(file)
    assert found is not None
    assert found.name == "AAC"
    assert 1.8 < decode_audio(file, MediaLimits()).seconds < 2.1


@pytest.mark.parametrize(
    ("codec", "container", "name"),
    [
        ("mpeg4", "mp4", "MP4"),
        ("mpeg4", "mov", "MOV"),
        ("libvpx", "webm", "WebM"),
        ("mpeg4", "matroska", "Matroska"),
        ("mpeg4", "avi", "AVI"),
        ("mpeg1video", "mpeg", "MPEG"),
        ("mpeg2video", "mpegts", "MPEG-TS"),
        ("mpeg2video", "mpeg2video", "MPEG video"),
        ("libvpx", "ogg", "Ogg video"),
    ],
)
def test_videos_are_recognized_and_may_serve_as_sound(codec: str, container: str, name: str) -> None:
    found = sniff(clip(3, codec, container, rate=25))
    assert found is not None
    assert (found.name, found.modalities) == (name, frozenset({"audio", "video"}))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"PK\3\4" + bytes(26), "a ZIP archive"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x1f\x8b\x08\0", "a gzip archive"),
        (b"\n<!DOCTYPE html><html>", "an HTML page"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg">', "an SVG drawing"),
        ("只是文字".encode() * 2000, "plain text"),
        (b"get free stuff", "plain text"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "plain text"),
        ("snow".encode("utf-16"), "plain text"),
    ],
)
def test_what_is_no_medium_is_named_in_the_refusal(data: bytes, name: str) -> None:
    found = sniff(data)
    assert found is not None
    assert (found.name, found.modalities) == (name, frozenset())
    for decode in (decode_image, decode_audio):
        with pytest.raises(UnsupportedMedia, match=name):
            decode(data, MediaLimits())


def test_the_wrong_modality_is_named_too() -> None:
    with pytest.raises(UnsupportedMedia, match="as WAV"):
        decode_image(recorded(WAVE, 48_000), MediaLimits())
    with pytest.raises(UnsupportedMedia, match="as JPEG"):
        decode_video(encoded(quadrants(), "JPEG"), MediaLimits(), count=1)


def test_noise_is_nothing_known() -> None:
    with pytest.raises(UnsupportedMedia, match="no known format"):
        decode_image(bytes(range(128, 256)), MediaLimits())


STARTS = (b"", b"RIFF\0\0\0\0WAVE", b"ID3\4", b"OggS", b"BM", b"\0\0\0\x18ftyp", b"\x1aE\xdf\xa3", b"G", b"\xff\xfb")


@settings(deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_whatever_follows_is_a_format_or_none(start: bytes, rest: bytes) -> None:
    found = sniff(start + rest)
    assert found is None or (found.name and found.modalities <= {"image", "audio", "video"})
