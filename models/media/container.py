"""Opening what FFmpeg reads, with no more trust in the file than it has earned.

The container format is the one that was sniffed, so no playlist can name other files; decoders are those listed here.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from io import BytesIO
from typing import TypeAlias, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from models.media.cancellation import check_cancelled
from models.media.clock import restarted, strays
from models.media.errors import MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, shielded
from models.media.limits import MediaLimits
from models.media.sniff import (
    AAC,
    AIFF,
    AMR,
    AU,
    AVI,
    CAF,
    FLAC,
    M4A,
    MKV,
    MOV,
    MP3,
    MP4,
    MPEG,
    MPEG_TS,
    MPEG_VIDEO,
    OGG,
    OGG_VIDEO,
    W64,
    WEBM,
    Format,
)

Track = TypeVar("Track", bound=Stream)
Coded: TypeAlias = "Packet[Stream]"
"""A piece of a coded stream. (The class is generic to type checkers only.)"""

_DEMUXERS: dict[Format, str] = {
    **dict.fromkeys((MP4, MOV, M4A), "mov"),
    **dict.fromkeys((WEBM, MKV), "matroska"),
    **dict.fromkeys((OGG, OGG_VIDEO), "ogg"),
    FLAC: "flac",
    MP3: "mp3",
    AAC: "aac",
    AIFF: "aiff",
    AMR: "amr",
    AU: "au",
    AVI: "avi",
    CAF: "caf",
    MPEG: "mpeg",
    MPEG_TS: "mpegts",
    MPEG_VIDEO: "mpegvideo",
    W64: "w64",
}

VIDEO_CODECS = (
    "dvvideo,ffv1,flv,h261,h263,h264,hevc,huffyuv,libdav1d,mjpeg,mpeg1video,mpeg2video,mpeg4,msmpeg4v2,msmpeg4,"
    "png,prores,rawvideo,theora,vp8,vp9,wmv1,wmv2"
)
"""Decoders of pictures that are used: those of cameras, phones, browsers and editors, of FFmpeg's several hundred."""

AUDIO_CODECS = (
    "aac,aac_latm,ac3,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,alac,amrnb,amrwb,eac3,flac,mp1float,mp2,mp2float,mp3,mp3float,"
    "opus,pcm_alaw,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_mulaw,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,"
    "pcm_s32le,pcm_s8,pcm_u8,speex,vorbis"
)
"""Decoders of sound that are used, likewise."""


@contextmanager
def opened(data: bytes, found: Format, modality: str, limits: MediaLimits) -> Iterator[InputContainer]:
    """The container in ``data``; whatever FFmpeg raises in the block becomes a `MediaError` of this modality."""
    with shielded(modality, found.name):
        if _DEMUXERS[found] == "mov":
            _check_sample_tables(data, modality)
        if _DEMUXERS[found] == "matroska":
            _check_segment(data, modality)
        if found is AVI and any(int.from_bytes(tag[1], "little") > len(data) for tag in _TAGS.finditer(data)):
            raise UndecodableMedia(modality, f"The {modality} has tags larger than itself.", "Send the whole file.")
        # Opening decodes the first frames to learn what the header omits, so the bound on pixels must hold there too.
        options = {
            "codec_whitelist": f"{VIDEO_CODECS},{AUDIO_CODECS}",
            "max_pixels": most_pixels(limits),
        }
        with av.open(
            BytesIO(data), "r", format=_DEMUXERS[found], options=options, metadata_errors="replace"
        ) as container:
            yield container


def most_pixels(limits: MediaLimits) -> str:
    """The bound for decoders. They pad frames to whole blocks, so it is wide: it is there to save memory."""
    return str(2 * limits.video_pixels + 2**16)


def usual(tracks: Sequence[Track]) -> Track | None:
    """The track that a player would play: the first that is marked as the usual one, else the first, if any."""
    return next((track for track in tracks if track.disposition & Disposition.default), next(iter(tracks), None))


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The usual stream of moving pictures; a song's cover is none."""
    return usual([each for each in container.streams.video if not each.disposition & Disposition.attached_pic])


def seconds(ticks: int | None, time_base: Fraction | None) -> float | None:
    """A time on the container's clock in seconds."""
    return None if ticks is None or time_base is None else float(ticks * time_base)


class Pictures:
    """When the moving pictures beside a sound are first and last seen, in seconds on the container's clock.

    ``restarting`` is for formats whose clock may start anew: what follows then is shown next.
    """

    def __init__(self, stream: VideoStream, *, restarting: bool = False) -> None:
        self.stream = stream
        self.start = seconds(stream.start_time, stream.time_base)
        self.end = self.start
        self._restarting, self._shift = restarting, 0.0
        self._before: Coded | None = None

    def note(self, packet: Coded) -> None:
        """Take in a packet of theirs."""
        guessed = packet.pts is None or (self._restarting and strays(packet))
        shown = seconds(packet.dts if guessed else packet.pts, packet.time_base)
        if self.end is None or shown is None:
            return
        if self._restarting:
            if self._before is not None and restarted(self._before, packet):
                self._shift = self.end - shown
            self._before = packet
        if not packet.is_discard:
            self.end = max(self.end, shown + self._shift + float((packet.duration or 0) * packet.time_base))


def packets(
    container: InputContainer, stream: Stream, modality: str, size: int, beside: Pictures | None = None
) -> Iterator[Coded]:
    """The packets of one stream in the order they are stored; ``size`` is that of the whole file.

    The packets of the pictures ``beside`` it are noted as they pass.

    Raises:
        UnsupportedMedia: they are encrypted.
        UndecodableMedia: the file's index, read by the end, promises more than the file has.
    """
    for packet in container.demux(stream) if beside is None else container.demux(stream, beside.stream):
        check_cancelled()
        if beside is not None and packet.stream_index == beside.stream.index:
            beside.note(packet)
            continue
        if packet.has_sidedata("encryption_info"):
            raise UnsupportedMedia(modality, f"The {modality} is encrypted.", "Send it without copy protection.")
        if packet.size:
            yield packet
    if any(entry.pos + entry.size > size for entry in stream.index_entries):
        raise _cut_off(modality)


def _cut_off(modality: str) -> UndecodableMedia:
    return UndecodableMedia(modality, f"The {modality} ends before the last of its content.", "Send the whole file.")


def _check_segment(data: bytes, modality: str) -> None:
    """Refuses a Matroska file that is shorter than its segment says; what was recorded live says nothing.

    Elements are an id, a length and that much content (RFC 8794): here the header's, then the segment's, which is all
    the rest (RFC 9559).
    """
    size, at = _length(data, 4)
    if size is None or data[at + size : at + size + 4] != _SEGMENT:
        return
    size, at = _length(data, at + size + 4)
    if size is not None and at + size > len(data):
        raise _cut_off(modality)


def _length(data: bytes, at: int) -> tuple[int | None, int]:
    """The length at a place of a Matroska file, and where it ends; None where it is said to be unknown, or cut off."""
    width = 9 - data[at].bit_length() if at < len(data) else 9
    value = int.from_bytes(data[at : at + width], "big") & ((1 << 7 * width) - 1)
    whole = width <= 8 and at + width <= len(data)
    return (value if whole and value != (1 << 7 * width) - 1 else None), at + width


def check_codec(stream: Stream, readable: str, modality: str) -> None:
    """Refuses a stream whose decoder is not among those ``readable``."""
    codec = getattr(stream.codec_context, "codec", None)  # no context where FFmpeg has no decoder
    if codec is None or codec.name not in readable.split(","):
        what = "sound of the video" if (modality, stream.type) == ("video", "audio") else modality
        raise UnsupportedMedia(
            modality,
            f"The {what} is coded as {'something unknown' if codec is None else codec.name}, which is not read.",
            "Send H.264 video with AAC sound in an MP4 file." if modality == "video" else "Send WAV, FLAC or MP3.",
        )


_SEGMENT = b"\x18\x53\x80\x67"

_TAGS = re.compile(rb"LIST(....)INFO", re.DOTALL)
"""The start of an AVI's tags with their length, for which FFmpeg allocates whatever it says, gigabytes too."""

_TABLE = re.compile(rb"stsz|stz2|trun|cmvd")

_SAMPLES_PER_BYTE = 4
"""More than any file has: QuickTime's old ADPCM, which counts single sound samples, has two."""

_REFUSED = 1 << 29
"""Samples in one table that FFmpeg refuses by itself; whatever looks like so large a table is a chance match."""

_BOXES = 1 << 17
"""Boxes on the top level that are told apart: two for each frame of a long live recording."""


def _check_sample_tables(data: bytes, modality: str) -> None:
    """Refuses an MP4 whose tables promise far more samples than it has bytes.

    A table can give one size for all its samples, so a kilobyte can promise millions, and FFmpeg allocates an entry for
    each when it opens the file: gigabytes.
    """
    promised = 0
    for start, end in _outside_mdat(data):
        for table in _TABLE.finditer(data, start, end):
            name = table.group()
            if name == b"cmvd":
                raise UnsupportedMedia(modality, f"The {modality} has a compressed header.", "Save it anew as MP4.")
            at = table.end() + (4 if name == b"trun" else 8)
            count = int.from_bytes(data[at : at + 4], "big")
            promised += count if count < _REFUSED else 0
    if promised > _SAMPLES_PER_BYTE * len(data):
        raise MediaOutOfBounds(
            modality,
            f"The {modality} promises {promised} samples in {len(data)} bytes.",
            "Save it anew as MP4.",
            f"{_SAMPLES_PER_BYTE} samples a byte",
        )


def _outside_mdat(data: bytes) -> Iterator[tuple[int, int]]:
    """Where to look for tables: all but the top-level ``mdat`` boxes, in which pictures and sound lie."""
    at = boxes = 0
    while at < len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        boxes += 1
        end = len(data) if size == 0 or boxes > _BOXES else min(at + max(size, 8), len(data))
        if kind != b"mdat" or boxes > _BOXES:
            yield at, end
        at = end
