import struct
import tracemalloc
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from models.media import (
    MediaLimits,
    MediaOutOfBounds,
    UndecodableMedia,
    UnsupportedMedia,
    decode_audio,
    video_audio,
)
from tests.models.media.make import INDEX_FIRST, Samples, clip, recorded, streamed, tone

LIMITS = MediaLimits()


def pitch(samples: Samples, rate: int) -> float:
    """The loudest frequency in Hz."""
    return float(np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples))


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


@pytest.mark.parametrize(
    ("kind", "subtype", "error"),
    [
        ("WAV", "PCM_U8", 0.01),
        ("WAV", "PCM_16", 1e-4),
        ("WAV", "PCM_24", 1e-5),
        ("WAV", "PCM_32", 1e-5),
        ("WAV", "FLOAT", 1e-6),
        ("WAV", "DOUBLE", 1e-6),
        ("WAV", "ULAW", 0.02),
        ("WAV", "IMA_ADPCM", 0.02),
        ("WAVEX", "PCM_24", 1e-5),
        ("RF64", "PCM_16", 1e-4),
        ("AIFF", "PCM_16", 1e-4),
        ("AIFF", "PCM_24", 1e-5),
        ("AIFF", "FLOAT", 1e-6),
        ("AIFF", "ULAW", 0.02),
        ("FLAC", "PCM_16", 1e-4),
        ("FLAC", "PCM_24", 1e-5),
        ("OGG", "VORBIS", 0.02),
        ("OGG", "OPUS", 0.05),
        ("MP3", "MPEG_LAYER_III", 0.02),
    ],
)
def test_recordings_give_their_samples(kind: str, subtype: str, error: float) -> None:
    wave = tone(440, 1, 16_000)
    audio = decode_audio(recorded(wave, 16_000, kind, subtype), LIMITS)
    assert audio.samples.dtype == np.float32
    assert (audio.samples.ndim, audio.rate) == (1, 16_000)
    assert abs(len(audio.samples) - 16_000) <= 1024
    middle = slice(2_000, 14_000)
    assert np.abs(audio.samples[middle] - wave[middle, 0]).max() < error


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("aac", "ipod"),
        ("alac", "ipod"),
        ("aac", "adts"),
        ("aac", "mp4"),
        ("aac", "mov"),
        ("pcm_s16be", "mov"),
        ("pcm_u8", "mov"),
        ("libopus", "webm"),
        ("libopus", "ogg"),
        ("flac", "ogg"),
        ("libmp3lame", "mp3"),
        ("libmp3lame", "matroska"),
        ("pcm_s24le", "matroska"),
        ("pcm_f64le", "matroska"),
        ("mp2", "mpeg"),
        ("aac", "mpegts"),
        ("pcm_s16le", "avi"),
        ("ac3", "mpegts"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_tracks_keep_length_pitch_and_loudness(codec: str, container: str, channels: int) -> None:
    audio = decode_audio(streamed(tone(440, 1, 48_000, channels), 48_000, codec, container), LIMITS)
    assert audio.seconds == pytest.approx(1, abs=0.06)  # coders pad to whole frames
    middle = audio.samples[2_000:14_000]
    assert pitch(middle, 16_000) == pytest.approx(440, abs=2)
    assert loudness(middle) == pytest.approx(0.5 / 2**0.5, rel=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_any_rate_becomes_the_one_asked_for(rate: int) -> None:
    file = recorded(tone(1000, 1, rate), rate)
    for wanted in (8_000, 16_000, 48_000):
        audio = decode_audio(file, LIMITS, rate=wanted)
        assert (audio.rate, len(audio.samples)) == (wanted, wanted)
        assert pitch(audio.samples, wanted) == pytest.approx(1000, abs=2)
        middle = slice(wanted // 4, wanted // 2)
        assert np.abs(audio.samples[middle] - tone(1000, 1, wanted)[middle, 0]).max() < 1e-3


def test_what_the_new_rate_cannot_hold_does_not_fold_back() -> None:
    for hz in (8_300, 9_000, 12_000, 20_000):
        audio = decode_audio(recorded(tone(hz), 48_000, "WAV", "FLOAT"), LIMITS)
        assert 20 * np.log10(loudness(audio.samples[2_000:-2_000]) / 0.35) < -100
    kept = decode_audio(recorded(tone(7_000), 48_000, "WAV", "FLOAT"), LIMITS)
    assert loudness(kept.samples[2_000:-2_000]) == pytest.approx(0.3535, rel=0.01)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_channels_are_averaged(channels: int) -> None:
    wave = tone(440, 0.5, 16_000, channels)
    wave[:, 1:] = 0
    audio = decode_audio(recorded(wave, 16_000, "WAV", "FLOAT"), LIMITS)
    assert np.allclose(audio.samples, wave[:, 0] / channels, atol=1e-6)


def wav(rate: int, bits: int = 16, channels: int = 1, kind: int = 1, samples: bytes = bytes(3200)) -> bytes:
    """A WAV with any header."""
    frame = channels * bits // 8
    header = struct.pack("<HHIIHH", kind, channels, rate, rate * frame % 2**32, frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(
    "file",
    [
        wav(0),
        wav(1),
        wav(2**31 - 1),
        wav(2**32 - 1),
        wav(16_000, channels=0),
        wav(16_000, bits=0),
    ],
    ids=["0 Hz", "1 Hz", "2 GHz", "4 GHz", "no channel", "no bits"],
)
def test_an_impossible_header_is_refused(file: bytes) -> None:
    with pytest.raises(UndecodableMedia):
        decode_audio(file, LIMITS)
    decode_audio(wav(16_000), LIMITS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("file", [("wav", "FLOAT"), ("wav", "DOUBLE"), ("matroska", "pcm_f32le")])
def test_samples_that_are_no_numbers_are_refused(bad: float, file: tuple[str, str]) -> None:
    wave = tone(440, 0.5, 16_000, 2)
    wave[5_000] = bad
    container, coding = file
    data = recorded(wave, 16_000, "WAV", coding) if container == "wav" else streamed(wave, 16_000, coding, container)
    with pytest.raises(UndecodableMedia, match="finite"):
        decode_audio(data, LIMITS)


def test_a_wav_in_a_coding_that_is_not_read_says_so() -> None:
    with pytest.raises(UnsupportedMedia, match="coded as 0x0065") as caught:
        decode_audio(wav(8000, bits=4, kind=0x65), LIMITS)
    assert "PCM" in caught.value.remedy


@pytest.mark.parametrize("size", [12, 16, 20, 21])
def test_a_wav_cut_off_in_its_header_is_not_taken_for_another_coding(size: int) -> None:
    # Its size is left open, as by a writer that was killed.
    cut = b"RIFF\xff\xff\xff\xff" + wav(16_000, kind=0x65)[8:size]
    with pytest.raises(UndecodableMedia, match="truncated or corrupt"):
        decode_audio(cut, LIMITS)


def test_loud_samples_are_numbers() -> None:
    audio = decode_audio(recorded(tone(440, 0.5, 16_000) * 40_000, 16_000, "WAV", "FLOAT"), LIMITS)
    assert np.abs(audio.samples).max() == pytest.approx(20_000, rel=0.01)


def test_no_sample_is_no_sound() -> None:
    for data in (wav(16_000, samples=b""), wav(192_000, samples=bytes(2))):
        with pytest.raises(MediaOutOfBounds, match="no samples"):
            decode_audio(data, LIMITS)


def test_a_wav_that_was_streamed_need_not_know_its_length() -> None:
    file = bytearray(recorded(tone(440, 1, 16_000), 16_000))
    for at in (4, file.index(b"data") + 4):
        file[at : at + 4] = b"\xff\xff\xff\xff"
    assert decode_audio(bytes(file), LIMITS).seconds == 1


@pytest.mark.parametrize("riff", [0, 8, 36, 2**32 - 1])
def test_a_wav_whose_writer_was_stopped_gives_what_there_is(riff: int) -> None:
    wave = tone(440, 1, 16_000)
    file = bytearray(recorded(wave, 16_000))
    at = file.index(b"data") + 4
    file[4:8], file[at : at + 4] = struct.pack("<I", riff), bytes(4)
    assert np.abs(decode_audio(bytes(file), LIMITS).samples - wave[:, 0]).max() < 1e-4


def test_what_follows_an_empty_wav_is_no_sound() -> None:
    file = bytearray(wav(16_000, samples=b"") + b"LIST\4\0\0\0INFO")
    file[4:8] = struct.pack("<I", len(file) - 8)
    with pytest.raises(MediaOutOfBounds, match="no samples"):
        decode_audio(bytes(file), LIMITS)


def test_a_flac_behind_an_id3_tag_is_read() -> None:
    flac = recorded(tone(440, 1, 16_000), 16_000, "FLAC")
    for length in (7, 127):
        assert decode_audio(b"ID3\4\0\0\0\0\0" + bytes([length]) + bytes(length) + flac, LIMITS).seconds == 1


def without_length(flac: bytes) -> bytes:
    """The same FLAC, whose header now says that the number of samples is unknown."""
    file = bytearray(flac)
    file[21] &= 0xF0
    file[22:26] = bytes(4)
    return bytes(file)


def test_a_flac_that_was_streamed_need_not_know_its_length() -> None:
    flac = recorded(tone(440, 1, 16_000), 16_000, "FLAC")
    assert decode_audio(without_length(flac), LIMITS).seconds == 1


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_a_truncated_recording_is_refused(kind: str) -> None:
    file = recorded(tone(440, 4), 48_000, kind)
    with pytest.raises(UndecodableMedia):
        decode_audio(file[: len(file) // 2], LIMITS)


def test_a_file_that_ends_before_its_index_says_is_refused() -> None:
    file = streamed(tone(440, 4), 48_000, "aac", "ipod", INDEX_FIRST)
    assert decode_audio(file, LIMITS).seconds == pytest.approx(4, abs=0.1)
    with pytest.raises(UndecodableMedia, match="ends before"):
        decode_audio(file[: len(file) * 3 // 4], LIMITS)


def test_a_webm_is_whole_unless_it_says_no_length() -> None:
    with pytest.raises(UndecodableMedia, match="ends before"):
        decode_audio(streamed(tone(440, 4), 48_000, "libopus", "webm")[:-1], LIMITS)
    live = streamed(tone(440, 4), 48_000, "libopus", "webm", {"live": "1"})
    assert 1 < decode_audio(live[: len(live) // 2], LIMITS).seconds < 3


def test_a_long_recording_is_refused_by_its_header() -> None:
    for file in (recorded(tone(440, 3, 8_000), 8_000), streamed(tone(440, 3), 48_000, "aac", "mp4")):
        with pytest.raises(MediaOutOfBounds, match="longer than 2 seconds"):
            decode_audio(file, replace(LIMITS, audio_seconds=2))


def test_where_the_header_is_silent_no_more_than_the_limit_is_held() -> None:
    flac = without_length(recorded(tone(440, 300, 16_000), 16_000, "FLAC"))
    tracemalloc.start()
    try:
        with pytest.raises(MediaOutOfBounds, match="longer than 2 seconds"):
            decode_audio(flac, replace(LIMITS, audio_seconds=2))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_video_has_its_sound_track_and_a_silent_one_none() -> None:
    sound = tone(440, 2)
    for codec, container, sound_codec in (("mpeg4", "mp4", "aac"), ("libvpx", "webm", "libopus")):
        audio = video_audio(clip(20, codec, container, sound=sound, sound_codec=sound_codec), LIMITS)
        assert audio is not None
        assert audio.seconds == pytest.approx(2, abs=0.06)
        assert pitch(audio.samples, 16_000) == pytest.approx(440, abs=2)
    assert video_audio(clip(5), LIMITS) is None
    with pytest.raises(UnsupportedMedia, match="without sound"):
        decode_audio(clip(5), LIMITS)


def test_a_sound_track_starts_with_the_pictures() -> None:
    late = video_audio(clip(20, container="matroska", sound=tone(440), sound_start=Fraction(1, 2)), LIMITS)
    assert late is not None
    assert late.seconds == pytest.approx(2, abs=0.1)
    assert loudness(late.samples[:7_000]) < 0.01
    assert loudness(late.samples[9_000:20_000]) > 0.3

    pictures = [500 + 100 * index for index in range(10)]
    early = video_audio(clip(10, container="matroska", times=pictures, sound=tone(440)), LIMITS)
    assert early is not None
    assert loudness(early.samples[:7_000]) > 0.3
    assert loudness(early.samples[9_000:]) < 0.01


@pytest.mark.parametrize(
    ("codec", "container", "sound_codec"),
    [("mpeg4", "mp4", "aac"), ("libx264", "mp4", "aac"), ("libvpx", "webm", "libopus"), ("mpeg2video", "mpegts", "aac"),
     ("mpeg4", "avi", "pcm_s16le")],
)  # fmt: skip
def test_a_sound_track_that_ends_early_goes_on_silently(codec: str, container: str, sound_codec: str) -> None:
    audio = video_audio(clip(50, codec, container, rate=25, sound=tone(440, 1), sound_codec=sound_codec), LIMITS)
    assert audio is not None
    assert audio.seconds == pytest.approx(2, abs=0.05)
    assert loudness(audio.samples[2_000:14_000]) > 0.3
    assert loudness(audio.samples[18_000:]) < 0.01


@pytest.mark.parametrize("seconds", [1.9, 2.1, 4.0])
def test_a_sound_track_of_about_the_pictures_length_or_more_is_given_as_it_is(seconds: float) -> None:
    video = clip(20, sound=tone(440, seconds))
    audio = video_audio(video, LIMITS)
    assert audio is not None
    assert np.array_equal(audio.samples, decode_audio(video, LIMITS).samples)


def test_pictures_that_last_too_long_to_be_read_prolong_no_sound() -> None:
    slow = clip(2, container="matroska", times=[0, 700_000], sound=tone(440, 1))
    audio = video_audio(slow, LIMITS)
    assert audio is not None
    assert audio.seconds == pytest.approx(1, abs=0.1)


def test_silence_before_the_sound_is_made_piece_by_piece() -> None:
    late = clip(5, container="matroska", sound=tone(440, 0.5), sound_start=Fraction(500))
    tracemalloc.start()
    audio = video_audio(late, LIMITS, rate=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert audio is not None
    assert audio.seconds == pytest.approx(500.5, abs=0.1)
    # 500 seconds at the track's own 48 kHz are 96 MB.
    assert peak < 16e6


def test_silence_before_the_sound_counts_and_cannot_fill_the_memory() -> None:
    days = clip(5, container="matroska", sound=tone(440, 0.5), sound_start=Fraction(500_000))
    with pytest.raises(MediaOutOfBounds, match="longer than 600 seconds"):
        video_audio(days, LIMITS)


@pytest.mark.parametrize(
    ("right", "kept"), [(-1.0, "left"), (-0.8, "left"), (-1.3, "right"), (0.0, "mean"), (1.0, "mean")]
)
def test_channels_that_cancel_each_other_leave_the_louder_one(right: float, kept: str) -> None:
    left = np.concatenate([np.zeros((20_000, 1), np.float32), 0.7 * tone(440, 3, 16_000)])
    both = np.concatenate([left, right * left], axis=1)
    wanted = {"left": left[:, 0], "right": both[:, 1], "mean": both.mean(1)}[kept]
    heard = decode_audio(recorded(both, 16_000, "WAV", "FLOAT"), LIMITS).samples
    assert np.abs(heard - wanted).max() < 1e-6
    filmed = decode_audio(streamed(both, 48_000, "libmp3lame", "mp3"), LIMITS).samples
    assert loudness(filmed[12_000:]) == pytest.approx(loudness(wanted[36_000:]), rel=0.1)


def test_a_channel_that_was_taken_once_is_kept() -> None:
    left = tone(440, 12, 16_000)
    opposed = np.concatenate([left, -left], axis=1)
    opposed[96_000:, 1] *= 1.05
    heard = decode_audio(recorded(opposed, 16_000, "WAV", "FLOAT"), LIMITS).samples
    assert np.abs(heard - left[:, 0]).max() < 1e-6
