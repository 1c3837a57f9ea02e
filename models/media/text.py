"""Text as sent to text as read: one encoding, one normal form, nothing unprintable."""

import html
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from html.entities import html5

from models.media.errors import MediaOutOfBounds, UndecodableMedia, UnsupportedMedia
from models.media.limits import MediaLimits
from models.media.sniff import sniff

_LINE_END = re.compile("\r\n|\r|\x85")
# Also what no reader sees but splits words for a tokenizer: soft hyphens, spaces without width, marks of direction.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# Of known names only, with attributes that have a value: "a <b and c> d" is no markup.
_TAG = re.compile(
    r"</?(?:a|b|big|blockquote|br|center|code|dd|div|dl|dt|em|font|h[1-6]|hr|i|img|li|ol|p|pre|q|s|small|span|strike"
    r"|strong|sub|sup|table|tbody|td|th|thead|tr|u|ul)"
    r"""(?:\s+[\w:-]+\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+))*\s*/?>""",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SURROGATE = re.compile("[\ud800-\udfff]")


def decode_text(data: bytes | str, limits: MediaLimits, *, markup: bool = False) -> str:
    """The text of ``data`` in Unicode's composed normal form (NFC).

    Bytes are UTF-8, or UTF-16 behind a byte order mark; the mark is dropped. Lines end in a single newline; all other
    control characters but the tab are removed, and so are soft hyphens, spaces without width and marks of direction.
    Joiners, variation selectors and what else emoji and scripts need stay. With ``markup`` HTML's tags, which are left
    in a text that was copied from a page's source, become spaces, and its entities characters.

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
    if markup:
        text = _ENTITY.sub(_character, _TAG.sub(" ", text))
    text = unicodedata.normalize("NFC", _CONTROL.sub("", _LINE_END.sub("\n", text)))
    if len(text) > most:
        raise _too_long(most)
    if all(unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc", "Cf") for char in text):
        raise MediaOutOfBounds(
            "text", "The text is empty or blank.", "Send at least one visible character.", "at least 1 character"
        )
    return text


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; one of no known name for itself, where HTML would take the beginning of its name."""
    written = entity[0]
    return html.unescape(written) if written[1] == "#" else html5.get(written[1:], written)


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
