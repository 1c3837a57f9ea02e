"""Picture files without their metadata, which readers stumble over where it is damaged. Pixels matter more."""

from models.media.sniff import JPEG, PNG, Format

_CHUNKS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
"""What a PNG's pixels are made of."""

_ADOBE = 0xEE
"""The metadata of a JPEG that says how its colours are coded."""


def bare(data: bytes, found: Format) -> bytes:
    """A JPEG or PNG of nothing but its pixels; any other as it is."""
    if found is PNG:
        return _bare_png(data)
    return _bare_jpeg(data) if found is JPEG else data


def _bare_png(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in _CHUNKS:
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


def _bare_jpeg(data: bytes) -> bytes:
    """The JPEG without applications' segments and comments before its first scan."""
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        end = at + 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
        noted = 0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE
        if not noted or (data[at + 1] == _ADOBE and end - at >= 16):
            kept.append(data[at:end])
        at = end
    return b"".join((*kept, data[at:]))
