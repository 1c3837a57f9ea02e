import time
import unicodedata

import pytest

from models.media import MediaLimits, MediaOutOfBounds, UndecodableMedia, UnsupportedMedia, decode_text
from tests.models.media.make import encoded, quadrants

LIMITS = MediaLimits()

KEPT = [
    "a dog runs through the snow",
    "一只狗在雪地里奔跑。",
    "一隻狗在雪地裡奔跑。",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇹🇼",
    "می‌خواهم",
    "two\nlines\tand a tab",
    " surrounded by space ",
    "café naïve",
    "𠮷野家",
]


@pytest.mark.parametrize("text", KEPT)
def test_text_in_any_script_comes_through_unchanged(text: str) -> None:
    assert decode_text(text, LIMITS) == text
    assert decode_text(text.encode(), LIMITS) == text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_obeyed_and_dropped(encoding: str) -> None:
    assert decode_text("雪 snow".encode(encoding), LIMITS) == "雪 snow"
    assert decode_text("雪".encode("utf-16-be").join((b"\xfe\xff", b"")), LIMITS) == "雪"
    assert decode_text("\ufeffsnow", LIMITS) == "snow"


def test_letters_are_composed() -> None:
    apart = unicodedata.normalize("NFD", "café 한국어")
    assert len(apart) > len("café 한국어")
    assert decode_text(apart, LIMITS) == "café 한국어"


def test_unprintable_characters_go_and_lines_end_one_way() -> None:
    assert decode_text("a\x00b\x1b[0m\x7f\x9fc", LIMITS) == "ab[0mc"
    assert decode_text("one\r\ntwo\rthree\x85four", LIMITS) == "one\ntwo\nthree\nfour"


def test_what_no_reader_sees_does_not_split_words() -> None:
    for unseen in "\xad\u200b\u200e\u200f\u202a\u202e\u2060\u2066\u2069\ufeff":
        assert decode_text(f"won{unseen}derful", LIMITS) == "wonderful"
    with pytest.raises(MediaOutOfBounds, match="empty or blank"):
        decode_text("\xad\u2060", LIMITS)


def test_where_a_line_or_a_page_ends_words_stay_apart() -> None:
    for end in "\v\f\x1c\x1d\x1e":
        assert decode_text(f"not{end}bad", LIMITS) == "not\nbad"
    assert decode_text("not\x1fbad", LIMITS) == "not bad"


def test_any_apostrophe_within_a_word_is_one() -> None:
    for typed in "'\xb4\u02bc\u2032\u201b":
        assert decode_text(f"It isn{typed}t bad, caf\u0065\u0301{typed}s.", LIMITS) == "It isn't bad, café's."
    for other in ("5\u2032 tall", "\xb4quoted\xb4", "it\u2019s"):
        assert decode_text(other, LIMITS) == other


@pytest.mark.parametrize("joiner", ["\u200c", "\u200d", "\u200d\u200b\u200c", "\u2060"])
def test_joiners_stay_only_where_they_are_seen(joiner: str) -> None:
    for word in ("wonderful", "好看", "прекрасно", "すごい"):
        assert decode_text(joiner.join(word), LIMITS) == word
    assert decode_text("e\u0301" + joiner + "t", LIMITS) == "ét"
    for text in ("می\u200cخواهم", "क्\u200dष", "👩\u200d💻", "❤\ufe0f\u200d🔥"):
        assert decode_text(text, LIMITS) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("A film.<br /><br>Not<BR/>bad", "A film.  Not bad"),
        ('<p class="x y" id=z>so <b>very</b> good</p>', " so  very  good "),
        ("<a href='http://x.org/?a=1&b=2'>here</a>", " here "),
        ("it&#39;s R&amp;B &lt;3 caf&eacute; &#x1F600;", "it's R&B <3 café 😀"),
        ("won&shy;der&#8203;ful&nbsp;film", "wonderful\xa0film"),
    ],
)
def test_markup_is_not_text_where_it_is_not_wanted(source: str, text: str) -> None:
    assert decode_text(source, LIMITS, markup=True) == text
    assert decode_text(source, LIMITS) == source


@pytest.mark.parametrize(
    "text",
    [
        "a < b",
        "a<b and c>d",
        "x <a and b> y",
        "I <3 it",
        "<3 <3",
        "<sarcasm>great</sarcasm>",
        "AT&T; R&B",
        "&nothing;",
        "<p",
    ],
)
def test_what_only_resembles_markup_stays(text: str) -> None:
    assert decode_text(text, LIMITS, markup=True) == text


def test_markup_that_never_ends_takes_no_time() -> None:
    began = time.process_time()
    for source in ("<p a=" * 4000, '<p a="' * 3000, "<p " + "a=b " * 4900, "<p" + " " * 19_000, "&a" * 9000):
        decode_text(source, LIMITS, markup=True)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("blank", ["", " \n\t ", "\x00\x01", "\u3000", "\u200b\u200d", b"\xef\xbb\xbf"])
def test_text_without_a_visible_character_is_refused(blank: str | bytes) -> None:
    with pytest.raises(MediaOutOfBounds, match="empty or blank"):
        decode_text(blank, LIMITS)


@pytest.mark.parametrize("broken", [b"caf\xe9", b"\xff\xfea", "雪".encode()[:2], "一只狗".encode("gb18030"), "\ud83d"])
def test_what_is_not_unicode_is_refused(broken: str | bytes) -> None:
    with pytest.raises(UndecodableMedia) as caught:
        decode_text(broken, LIMITS)
    assert caught.value.modality == "text"


def test_another_kind_of_file_is_named() -> None:
    with pytest.raises(UnsupportedMedia, match="JPEG"):
        decode_text(encoded(quadrants(), "JPEG"), LIMITS)


def test_the_length_is_checked_before_normalization_which_can_take_seconds() -> None:
    marks = "a" + "\u0301\u0316" * 100_000
    with pytest.raises(MediaOutOfBounds, match="longer than 20000 characters"):
        decode_text(marks, LIMITS)
    with pytest.raises(MediaOutOfBounds, match="longer than 3 characters"):
        decode_text("\ufb2c\ufb2c", MediaLimits(text_characters=3))  # each decomposes into three for good
