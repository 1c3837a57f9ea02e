"""Text as sent to text as read: one encoding, one normal form, nothing unprintable."""

import html
import re
import unicodedata
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from html.entities import html5

from models.media.errors import MediaOutOfBounds, UndecodableMedia, UnsupportedMedia
from models.media.limits import MediaLimits
from models.media.sniff import sniff

# As in str.splitlines: where a word processor's line or page ends, words must not grow together.
_LINE_END = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85]")
# Also what no reader sees but splits words for a tokenizer: soft hyphens, spaces without width, marks of direction.
_CONTROL = re.compile("[\0-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
# Letters of scripts that need no joiners, unlike Arabic or Indic ones: Latin, Greek and Cyrillic; East Asian.
_JOINED = (
    "[A-Za-z\xaa\xba\xc0-\u052f\u1e00-\u1fff\u3005-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]"
)
# A joiner between two of them changes nothing to see, but splits the word for a tokenizer.
_JOINER = re.compile(f"(?<={_JOINED})[\u200c\u200d]+(?={_JOINED})")
# What keyboards give for an apostrophe. Tokenizers take U+00B4 apart (NFKC), and then read "isn" and "t".
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])[\u00b4\u02bc\u2032\u201b](?=[^\W\d_])")
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
    Joiners, variation selectors and what else emoji and scripts need stay, but not a joiner between Latin or East Asian
    letters. An apostrophe within a word is U+0027 or U+2019, whichever key was used. With ``markup`` HTML's tags, which
    are left in a text that was copied from a page's source, become spaces, and its entities characters.

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
    text = _LINE_END.sub("\n", text).replace("\x1f", " ")
    text = unicodedata.normalize("NFC", _JOINER.sub("", _CONTROL.sub("", text)))
    text = _APOSTROPHE.sub("'", text)
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
