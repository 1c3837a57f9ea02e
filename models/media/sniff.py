"""Names a medium by its first bytes. File names and headers are claims; the content is what decoders will meet."""

import struct
from codecs import getincrementaldecoder
from collections.abc import Callable
from dataclasses import dataclass

from models.media.errors import MediaOutOfBounds, MediaTooLarge, UnsupportedMedia

HEAD = 4096
"""Bytes from the start that are looked at."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: its ``name`` in a sentence, and the modalities that can be read from it (none: only named)."""

    name: str
    modalities: frozenset[str] = frozenset()


def _format(name: str, *modalities: str) -> Format:
    return Format(name, frozenset(modalities))


JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC = (
    _format(name, "image") for name in ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
)
WAV, W64, AIFF, CAF, AU, FLAC, MP3, AAC, M4A, OGG, AMR = (
    _format(name, "audio") for name in ("WAV", "Wave64", "AIFF", "CAF", "AU", "FLAC", "MP3", "AAC", "M4A", "Ogg", "AMR")
)
MP4, MOV, WEBM, MKV, AVI, MPEG, MPEG_TS, MPEG_VIDEO, OGG_VIDEO = (
    _format(name, "audio", "video")
    for name in ("MP4", "MOV", "WebM", "Matroska", "AVI", "MPEG", "MPEG-TS", "MPEG video", "Ogg video")
)
ZIP, HTML, SVG, TEXT = (_format(name) for name in ("a ZIP archive", "an HTML page", "an SVG drawing", "plain text"))

_PREFIXES: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"fLaC", FLAC),
    (b"caff\0\1\0\0", CAF),
    (b".snd\0", AU),
    (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0", W64),
    (b"\0\0\1\xba", MPEG),
    (b"\0\0\1\xb3", MPEG_VIDEO),
    (b"PK\3\4", ZIP),
    (b"PK\5\6", ZIP),
    (b"%PDF-", _format("a PDF document")),
    (b"\x1f\x8b", _format("a gzip archive")),
    (b"7z\xbc\xaf\x27\x1c", _format("a 7z archive")),
    (b"Rar!\x1a\x07", _format("a RAR archive")),
    (b"\x7fELF", _format("a program")),
    (b"MZ\x90\0", _format("a program")),
    (b"\0\0\0\x0cjP  ", _format("a JPEG 2000 picture")),
    (b"8BPS", _format("a Photoshop document")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", _format("Windows Media")),
    (b"FLV\1", _format("Flash video")),
    (b"#!AMR", AMR),
)

_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
"""Bytes of the second header of a BMP, of which there are as many versions."""

_RIFF: dict[bytes, Format] = {b"WAVE": WAV, b"WEBP": WEBP, b"AVI ": AVI}

_KILOBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_HERTZ = (44_100, 48_000, 32_000)
"""Of MPEG-1 layer III by the numbers in a frame's header; bit rates of MPEG-2 and 2.5, which sample less often."""

_BRANDS: dict[bytes, Format] = {
    b"qt  ": MOV,
    **dict.fromkeys((b"M4A ", b"M4B ", b"M4P "), M4A),
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIC),
    b"crx ": _format("a raw camera photo"),
}


def sniff(data: bytes) -> Format | None:
    """The format that ``data`` begins as, or None. Says nothing about whether the rest is sound."""
    head = bytes(data[:HEAD])
    for prefix, known in _PREFIXES:
        if head.startswith(prefix):
            return known
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return BMP
    if head[:4] == b"OggS":
        # Every stream's first page comes before any second page, so the start names all that the file holds.
        return OGG_VIDEO if b"\x80theora" in head or b"OVP80" in head else OGG
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return WEBM if b"webm" in head[:64] else MKV
    # The first byte tops a length, so it is small; that keeps a text like "get free ..." out.
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot") and head[0] < 0x20:
        return _iso_media(head)
    if _is_transport_stream(head):
        return MPEG_TS
    return _mpeg_audio(data) or _cut_mpeg_audio(head) or _text(head)


def recognize(data: bytes, modality: str, most: int) -> Format:
    """The format of ``data``, which is to be read as ``modality`` and may have ``most`` bytes.

    Raises:
        MediaTooLarge: there are more bytes than that.
        MediaOutOfBounds: there are none.
        UnsupportedMedia: the content is no format that is read as this modality.
    """
    if len(data) > most:
        raise MediaTooLarge(
            modality,
            f"The {modality} has {len(data)} bytes, and at most {most} are accepted.",
            "Send a smaller or more strongly compressed file.",
            f"{most} bytes",
        )
    if not data:
        raise MediaOutOfBounds(modality, f"The {modality} is empty.", "Send a file with content.", "at least 1 byte")
    found = sniff(data)
    if found is None or modality not in found.modalities:
        name = "no known format" if found is None else found.name
        raise UnsupportedMedia(
            modality, f"The {modality} was recognized by its content as {name}.", f"Send {READABLE[modality]}."
        )
    return found


READABLE: dict[str, str] = {
    "image": "JPEG, PNG, HEIC, WebP, AVIF, GIF, BMP or TIFF",
    "audio": "WAV, AIFF, CAF, AU, FLAC, MP3, Ogg, M4A, AAC, AMR or a WebM or MP4 with sound",
    "video": "MP4, MOV, WebM, Matroska, AVI or MPEG",
}
"""What to send for each modality, in words."""


def _iso_media(head: bytes) -> Format:
    if head[4:8] != b"ftyp":
        return MOV  # QuickTime files from before there were brands
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    major = _BRANDS.get(brands[0], MP4)
    return AVIF if major is HEIC and b"avif" in brands else major


def _is_transport_stream(head: bytes) -> bool:
    """Whether the sync byte 0x47 repeats at packet length: 188, or 192 with Blu-ray's four bytes before each."""
    return any(
        len(head) > start + size and all(head[at] == 0x47 for at in range(start, len(head), size))
        for start, size in ((0, 188), (4, 192))
    )


def _cut_mpeg_audio(head: bytes) -> Format | None:
    """MP3 or AAC that was cut out of a longer one, and begins within a frame: three follow each other somewhere."""
    at = head.find(0xFF)
    while at >= 0:
        for length, found in ((_frame_bytes, MP3), (_adts_bytes, AAC)):
            if _are_frames(head, at, 3, length):
                return found
        at = head.find(0xFF, at + 1)
    return None


def _are_frames(head: bytes, at: int, count: int, length: Callable[[bytes], int]) -> bool:
    for _ in range(count):
        size = length(head[at : at + 6])
        if not size:
            return False
        at += size
    return True


def _adts_bytes(header: bytes) -> int:
    """How long the frame of AAC is that has this header; 0 if it is none."""
    word = int.from_bytes(header, "big") if len(header) == 6 else 0
    size = word >> 5 & 0x1FFF
    return size if word >> 36 == 0xFFF and not word >> 33 & 3 and word >> 26 & 15 < 13 and size > 7 else 0


def _frame_bytes(header: bytes) -> int:
    """How long the frame of layer III is that has this header; 0 if it is none."""
    word = int.from_bytes(header[:4], "big") if len(header) >= 4 else 0
    version, bitrate, rate = word >> 19 & 3, word >> 12 & 15, word >> 10 & 3
    if word >> 21 != 0x7FF or word >> 17 & 3 != 1 or version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    # MPEG-2 (2) halves the rates of MPEG-1 (3), and MPEG-2.5 (0) halves them again.
    samples, kilobits = (144, _KILOBITS) if version == 3 else (72, _KILOBITS_LOW)
    hertz = _HERTZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    return samples * kilobits[bitrate] * 1000 // hertz + (word >> 9 & 1)


def _mpeg_audio(data: bytes) -> Format | None:
    """MP3 or AAC by the header of the first frame, which may come after an ID3 tag, as some put before FLAC, too."""
    tagged = data[:3] == b"ID3" and len(data) >= 10
    # The tag's length has seven bits a byte.
    start = 10 + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9]) if tagged else 0
    first = bytes(data[start : start + 4])
    if len(first) == 4:
        (word,) = struct.unpack(">I", first)
        layer = word >> 17 & 3
        if word >> 20 == 0xFFF and layer == 0 and word >> 10 & 15 < 13:
            return AAC
        # Layer I (3) is left out: its sync word is also the byte order mark of UTF-16.
        version, bitrate, rate = word >> 19 & 3, word >> 12 & 15, word >> 10 & 3
        if word >> 21 == 0x7FF and layer in (1, 2) and version != 1 and bitrate != 15 and rate != 3:
            return MP3
        if first == b"fLaC":
            return FLAC
    return (_cut_mpeg_audio(bytes(data[start : start + HEAD])) or MP3) if tagged else None


def _text(head: bytes) -> Format | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:256].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return HTML
    if b"<svg" in start:
        return SVG
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return TEXT
    try:
        text = getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return None
    return TEXT if text and not any(char < " " and char not in "\t\n\r\f" for char in text) else None
