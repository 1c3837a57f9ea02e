"""How long a sound file's header says that it is, and what stands there if its writer could not know."""

from io import BytesIO

from models.media.errors import UndecodableMedia
from models.media.sniff import CAF, W64, WAV, Format

_UNKNOWN = 0x7FFF0000
"""Bytes from which on a WAV's length is a mark that it is not known, as writers to a pipe leave several."""

_OPEN = b"\xff\xff\xff\xff"
"""The length of a WAV's samples where all that follow are meant."""


def check_length(data: bytes, found: Format) -> None:
    """Refuses a sound of which less is there than its header says.

    Raises:
        UndecodableMedia: it is a WAV, Wave64 or CAF that was cut off.
    """
    claimed = {WAV: _riff_size, W64: _wave64_size, CAF: _caf_size}.get(found, len)(data)
    if claimed > len(data):
        raise cut_off()


def cut_off() -> UndecodableMedia:
    """What to raise of a sound that lacks its end."""
    return UndecodableMedia("audio", "The audio ends before the last of its samples.", "Send the whole file.")


def finished(data: bytes) -> BytesIO:
    """A WAV as a file; where its writer was stopped before it knew how many samples come, all that follow are read."""
    file = BytesIO(data)
    at = _chunks_end(data, 12, until=b"data") + 8
    if data[at - 8 : at] == b"data" + bytes(4) and _chunks_end(data, at) - len(data) not in (0, 1):
        file.seek(at - 4)
        file.write(_OPEN)
        file.seek(0)
    return file


def _chunks_end(data: bytes, at: int, until: bytes = b"") -> int:
    """Where the chunks of a WAV end that follow each other from a place on, or where the one called ``until`` is.

    Samples hardly look like a chunk: four letters, and a length.
    """
    while at < len(data) and (name := data[at : at + 4]) != until and all(32 <= letter < 127 for letter in name):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
    return at


def _riff_size(data: bytes) -> int:
    """Bytes that a WAV's first header claims, or that of 64 bits behind it; 0 where its writer could not know."""
    if data[:4] == b"RF64" and data[12:16] == b"ds64":
        return _wave64_size(data[4:])
    claimed = int.from_bytes(data[4:8], "little")
    return claimed if claimed < _UNKNOWN else 0  # some writers count the first eight bytes, too


def _wave64_size(data: bytes) -> int:
    claimed = int.from_bytes(data[16:24], "little")
    return claimed if claimed < 1 << 63 else 0


def _caf_size(data: bytes) -> int:
    """Where the last of a CAF's chunks ends; one of samples may have the length -1, and is then all the rest."""
    at = 8
    while at + 12 <= len(data) and (size := int.from_bytes(data[at + 4 : at + 12], "big", signed=True)) >= 0:
        at += 12 + size
    return at
