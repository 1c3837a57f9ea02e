"""Sound bytes to samples: mono, at one rate.

WAV is read by libsndfile, six times as fast as by FFmpeg, and all else by FFmpeg, which reads FLAC of unstated length,
cuts off the silence that an MP3 encoder adds, decodes Opus in half the time, and writes nothing to stderr, where
libsndfile's MP3 reader lets a damaged file fill the log.

Resampling is python-soxr's HQ: to 16 kHz it rejects a tone at 8.2 kHz by 131 dB, where FFmpeg's default lets it through
at -15 dB, and it takes 1.4 ms for ten seconds instead of 1.9.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

import numpy as np
import soundfile
import soxr
from av.audio.frame import AudioFrame

from models.media.cancellation import check_cancelled
from models.media.container import Pictures, opened, picture_stream, seconds
from models.media.errors import MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, shielded
from models.media.lengths import check_length, cut_off, finished
from models.media.limits import MediaLimits
from models.media.samples import Block, Samples, balanced, decoded
from models.media.sniff import AIFF, AU, CAF, FLAC, M4A, MKV, MOV, MP4, MPEG, MPEG_TS, W64, WAV, WEBM, recognize

_STATING_SAMPLES = frozenset((AIFF, AU, CAF, FLAC, W64))
"""Containers whose header can state how many samples follow. What ends before is cut off."""

_STATING_LENGTH = _STATING_SAMPLES | {MP4, MOV, M4A, WEBM, MKV}
"""Containers whose header can state a duration. For others FFmpeg guesses one from the bit rate."""

_SLACK = 0.1
"""Seconds by which a sound may differ from its stated duration, as coders work in whole frames."""

_SHORT = 0.2
"""Seconds by which a video's sound may end before its pictures: cameras do not stop both at once."""

_MICROSECOND = Fraction(1, 1_000_000)

_BLOCK = 1 << 17
"""Values decoded at a time, over all channels."""

_JOINED = 1 << 14
"""Values, about, that are averaged and resampled at a time."""

_RATES = range(1_000, 384_001)
"""Sample rates in Hz that a sound can have: bats are recorded at the highest. Others come from broken headers."""

_WAV_CODINGS = (0x0001, 0x0002, 0x0003, 0x0006, 0x0007, 0x0011, 0x0031, 0x0040, 0x0055, 0xFFFE)
"""Format tags that libsndfile reads: PCM, floats, A- and mu-law, ADPCM, GSM, G.721, MP3, and extended ones."""

_PLACES = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC"),
    *("SL", "SR", "TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
"""Places of loudspeakers by the bits of an extended WAV's header."""

LOUDEST = 2.0**31
"""No file has larger values, not even one that stores 32-bit integers as floating point."""

_OPPOSED = 0.03
"""Power of the channels' mean, as a share of theirs, below which they cancel each other; of unlike ones it is 0.5."""

_LEAD = 2_000
"""Samples of silence that a resampler hears first."""


@dataclass(frozen=True, slots=True)
class Audio:
    """Mono sound: ``samples`` float32 [N], full scale at -1 and 1, ``rate`` of them a second."""

    samples: Samples
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


def decode_audio(data: bytes, limits: MediaLimits, *, rate: int = 16_000) -> Audio:
    """The sound in ``data``, or the sound track of a video, mixed down to mono and resampled to ``rate``.

    Channels of opposite phase, as from a cable that is wired the wrong way round, would cancel each other: where they
    do, the louder one stands for both. A stream cannot know that before. Surround sound is mixed as ITU-R BS.775 says.

    Memory grows with what is kept: a file that is longer than the limit, whatever its header says, stops there.

    Raises:
        MediaError: too many bytes or seconds, no sound, not a format that is read, corrupt, or not made of numbers.
    """
    found = recognize(data, "audio", limits.audio_bytes)
    most = limits.audio_seconds
    check_length(data, found)
    if found is WAV:
        with shielded("audio", found.name):
            return _some(_assemble(_wav_blocks(data, most), rate, "audio", most))
    with opened(data, found, "audio", limits) as container:
        if not container.streams.audio:
            raise UnsupportedMedia("audio", f"The audio is {found.name} without sound.", "Send a file with sound.")
        stated = seconds(container.duration, _MICROSECOND) or 0.0
        if found in _STATING_LENGTH and stated > most + _SLACK:
            raise _too_long("audio", most)
        frames = decoded(container, found, "audio", len(data))
        audio = _some(_assemble((block for _, block in frames), rate, "audio", most))
        if found in _STATING_SAMPLES and audio.seconds < stated - _SLACK:
            raise cut_off()
        return audio


def video_audio(data: bytes, limits: MediaLimits, *, rate: int = 16_000) -> Audio | None:
    """The sound track of the video in ``data``, as `decode_audio` gives it, or None where there is none or it is empty.

    Sample 0 is at the first frame: sound from before it is dropped, and silence stands for sound that starts later, or
    that ends earlier than the pictures by more than ``_SHORT`` seconds. What is heard after them is kept.

    Raises:
        MediaError: as for `decode_audio`, within the limits of a video.
    """
    found = recognize(data, "video", limits.video_bytes)
    with opened(data, found, "video", limits) as container:
        if not container.streams.audio:
            return None
        moving = picture_stream(container)
        pictures = None if moving is None else Pictures(moving, restarting=found in (MPEG, MPEG_TS))
        start = None if pictures is None else pictures.start
        frames = decoded(container, found, "video", len(data), pictures)
        most = limits.video_seconds
        audio = _assemble(_aligned(frames, start, most), rate, "video", most)
        if not len(audio.samples):
            return None
        return audio if pictures is None else _filled(audio, pictures, most)


def _filled(audio: Audio, pictures: Pictures, most: float) -> Audio:
    """A sound that goes on, silently, while there are pictures; not where those last too long to be read."""
    if pictures.start is None or pictures.end is None or pictures.end - pictures.start > most:
        return audio
    missing = pictures.end - pictures.start - audio.seconds
    return Audio(np.pad(audio.samples, (0, round(missing * audio.rate))), audio.rate) if missing > _SHORT else audio


def _some(audio: Audio) -> Audio:
    if not len(audio.samples):
        raise MediaOutOfBounds("audio", "The audio has no samples.", "Send a longer recording.", "at least 1 sample")
    return audio


def _assemble(blocks: Iterator[Block], rate: int, modality: str, most: float) -> Audio:
    """One signal of at most ``most`` seconds from blocks that share a sample rate."""
    source = heard = lead = 0
    resampler: soxr.ResampleStream | None = None
    pieces: list[Samples] = []
    favoured: int | None = None
    for found, block in _joined(blocks):
        if not source:
            source = _plausible(found, modality)
            resampler, lead = _resampler(source, rate) if source != rate else (None, 0)
        elif found != source:
            raise UndecodableMedia(modality, "The sound changes its sample rate midway.", "Send it at one rate.")
        heard += len(block)
        if heard > most * source:
            raise _too_long(modality, most)
        # Phrased so that NaN, which compares false, fails too.
        if not np.abs(block).max(initial=0) <= LOUDEST:
            raise UndecodableMedia(modality, "The sound has samples that are not finite numbers.", "Export it anew.")
        mono, favoured = _mono(block, favoured)
        pieces.append(mono if resampler is None else resampler.resample_chunk(mono))
    if resampler is not None:
        pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return Audio(np.concatenate([np.zeros(0, np.float32), *pieces])[lead:], rate)


def _mono(block: Samples, favoured: int | None) -> tuple[Samples, int | None]:
    """The channels' mean [N], and of opposed ones one: always the same, as to swap them would turn the wave over."""
    mono = block @ np.full(block.shape[1], 1 / block.shape[1], np.float32)
    power = np.square(block).mean(0)
    if np.square(mono).mean() >= _OPPOSED * power.mean():
        return mono, favoured
    if favoured is None or favoured >= len(power):
        favoured = int(power.argmax())
    return block[:, favoured], favoured


def _joined(blocks: Iterator[Block]) -> Iterator[Block]:
    """The same signal in larger blocks: a coder's frames are so short that each step with one is mostly the call."""
    held: list[Samples] = []
    rate = count = 0
    for found, block in blocks:
        if held and (found != rate or block.shape[1] != held[0].shape[1] or count >= _JOINED):
            yield rate, np.concatenate(held)
            held, count = [], 0
        rate, count = found, count + block.size
        held.append(block)
    if held:
        yield rate, np.concatenate(held)


def _resampler(source: int, rate: int) -> tuple[soxr.ResampleStream, int]:
    """A resampler that has heard some silence, and how many samples it will give for that.

    A fresh one bends its first samples, for which a stream's resampler would have to know where the sound began.
    """
    common = gcd(source, rate)
    periods = -(-_LEAD // (source // common))
    stream = soxr.ResampleStream(source, rate, 1)
    before = stream.resample_chunk(np.zeros(periods * source // common, np.float32))
    return stream, periods * rate // common - len(before)


def _plausible(rate: int, modality: str) -> int:
    if rate not in _RATES:
        raise UndecodableMedia(
            modality,
            f"The sound claims a sample rate of {rate} Hz.",
            "Export it anew, at 16000 Hz say.",
            f"{_RATES.start} to {_RATES[-1]} Hz",
        )
    return rate


def _too_long(modality: str, most: float) -> MediaOutOfBounds:
    return MediaOutOfBounds(
        modality, f"The sound is longer than {most:g} seconds.", "Send a shorter recording.", f"{most:g} seconds"
    )


def _wav_blocks(data: bytes, most: float) -> Iterator[Block]:
    """What libsndfile reads."""
    try:
        opened_file = soundfile.SoundFile(finished(data))
    except soundfile.LibsndfileError as error:
        found = data.find(b"fmt ")
        coding = int.from_bytes(data[found + 8 : found + 10], "little")
        # Without a whole header there is no telling.
        if found < 0 or len(data) < found + 10 or coding in _WAV_CODINGS:
            raise
        said = f"The audio is a WAV coded as 0x{coding:04x}, which is not read."
        raise UnsupportedMedia("audio", said, "Save it as PCM, in 16 bits say.") from error
    with opened_file as file:
        rate = _plausible(file.samplerate, "audio")
        if file.frames > most * rate:
            raise _too_long("audio", most)
        size, layout = max(1, _BLOCK // file.channels), _wav_layout(data)
        while len(block := file.read(size, dtype="float32", always_2d=True)):
            check_cancelled()
            yield rate, balanced(block, layout)


def _wav_layout(data: bytes) -> str:
    """Where the loudspeakers of a WAV's channels stand, in FFmpeg's words; empty where it does not say so."""
    about = data[data.find(b"fmt ") + 8 :][:24]
    places = int.from_bytes(about[20:24], "little") if about[:2] == b"\xfe\xff" else 0
    return "+".join(name for bit, name in enumerate(_PLACES) if places >> bit & 1)


def _aligned(frames: Iterator[tuple[AudioFrame, Block]], start: float | None, most: float) -> Iterator[Block]:
    """The frames' blocks as from ``start`` seconds on the file's clock, with silence where they begin after it."""
    missing: int | None = None
    for frame, (rate, block) in frames:
        if missing is None:
            begin = seconds(frame.pts, frame.time_base)
            late = 0.0 if begin is None or start is None else begin - start
            if late > most:
                raise _too_long("video", most)
            missing = round(late * _plausible(rate, "video"))
            for done in range(0, missing, _BLOCK):
                yield rate, np.zeros((min(_BLOCK, missing - done), 1), np.float32)
        kept = block[max(0, -missing) :]
        missing = min(0, missing + len(block)) if missing < 0 else missing
        yield rate, kept
