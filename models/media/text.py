"""Text as sent to text as read: one encoding, one normal form, nothing unprintable."""

import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE

from models.media.errors import MediaOutOfBounds, UndecodableMedia, UnsupportedMedia
from models.media.limits import MediaLimits
from models.media.sniff import sniff

_LINE_END = re.compile("\r\n|\r|\x85")
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_text(data: bytes | str, limits: MediaLimits) -> str:
    """The text of ``data`` in Unicode's composed normal form (NFC).

    Bytes are UTF-8, or UTF-16 behind a byte order mark; the mark is dropped. Lines end in a single newline; all other
    control characters but the tab are removed. Joiners, variation selectors and what else emoji and scripts need stay.

    Raises:
        MediaError: the text is too long, blank or not valid Unicode, or is another kind of file.
    """
    most = limits.text_characters
    if len(data) > 4 * most + 4:  # no encoding has more bytes a character
        raise _too_long(most)
    text = data.removeprefix("\ufeff") if isinstance(data, str) else _unicode(data)
    # Normalizing is quadratic in the worst case, so the length is checked before it, and after it as it may add some.
    if len(text) > most:
        raise _too_long(most)
    if _SURROGATE.search(text):
        raise UndecodableMedia("text", "The text contains half of a surrogate pair.", "Send valid Unicode.")
    text = unicodedata.normalize("NFC", _CONTROL.sub("", _LINE_END.sub("\n", text)))
    if len(text) > most:
        raise _too_long(most)
    if all(unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc", "Cf") for char in text):
        raise MediaOutOfBounds(
            "text", "The text is empty or blank.", "Send at least one visible character.", "at least 1 character"
        )
    return text


def _unicode(data: bytes) -> str:
    encoding = "UTF-16" if data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else "UTF-8"
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        found = sniff(data)
        if found is not None and found.name != "plain text":
            raise UnsupportedMedia(
                "text", f"The text was recognized by its content as {found.name}.", "Send plain text."
            ) from error
        raise UndecodableMedia(
            "text", f"The text is not valid {encoding} at byte {error.start}.", "Send it encoded as UTF-8."
        ) from error


def _too_long(most: int) -> MediaOutOfBounds:
    return MediaOutOfBounds(
        "text", f"The text is longer than {most} characters.", "Send a shorter text.", f"{most} characters"
    )
