"""What a tokenizer takes for a word."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.features.text import TextTokenizer, split_words
from models.features.tokens import TextFeatures

TEXT = "It's GREAT!! 房间很差。 :-( \U0001f600 \u2018ok\u2019 don\u2019t e\u0301t\u00e9 4.5"


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        (False, "it's great 房 间 很 差 ok don't \u00e9t\u00e9 4 5"),
        (True, "it s great ! ! 房 间 很 差 。 : - ( \U0001f600 ok do n't \u00e9t\u00e9 4 . 5"),
    ],
)
def test_marks_are_words_or_stand_between_words(marks: bool, words: str, tmp_path: Path) -> None:
    tokenizer = TextTokenizer.build(words.split(), marks=marks)
    assert tokenizer.split(TEXT) == words.split()
    assert tokenizer.words(tokenizer.encode(TEXT)) == words.split()
    assert split_words(TEXT, marks=marks) == words.split()
    tokenizer.save(tmp_path / "tokenizer.json")
    assert TextTokenizer.load(tmp_path / "tokenizer.json").encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("written", ["It isn't, we\u2019re; I'd've", "it is n't , we 're ; i 'd 've"])
def test_contractions_read_alike_however_they_are_written(written: str) -> None:
    tokenizer = TextTokenizer.build([], marks=True)
    assert tokenizer.split(written) == ["it", "is", "n't", ",", "we", "re", ";", "i", "d", "ve"]
    assert tokenizer.split("rock'n'roll o'clock 'quoted'") == ["rock'n'roll", "o'clock", "quoted"]


@pytest.mark.parametrize("marks", [False, True])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("Loooove it SOOO goood", "love it sooo good"),
        ("na\u00efve cafe\u0301 r\u00e9sum\u00e9", "naive cafe r\u00e9sum\u00e9"),
        ("Na\u00ef\u00efve", "<unk>"),
        ("n\u00e0\u00ef\u00ef\u00efve", "naive"),
        ("\u304c 1000 g\u00f6\u00f6d", "<unk> <unk> good"),
    ],
)
def test_an_unknown_word_drawn_out_or_with_accents_is_read_as_the_known_one(
    written: str, read: str, marks: bool
) -> None:
    known = ["love", "it", "so", "sooo", "good", "naive", "cafe", "résumé", "か", "10", "100"]
    tokenizer = TextTokenizer.build(known, marks=marks)
    assert tokenizer.words(tokenizer.encode(written)) == read.split()
    # What is to be written stays as it is.
    assert tokenizer.words(tokenizer.spell("goood")) == ["<unk>"]


def test_pairs_of_characters_are_read_behind_the_second_of_them(tmp_path: Path) -> None:
    tokenizer = TextTokenizer.build([*"一只小狗", "dog"])
    assert tokenizer.words(tokenizer.encode("小狗 dog")) == ["小", "狗", "dog"]
    larger = tokenizer.extended(["小狗", "只小", "dog", "小马"])
    assert larger.size == tokenizer.size + 3
    assert larger.words(range(tokenizer.size)) == tokenizer.words(range(tokenizer.size))
    read = larger.encode("一只小狗, dog 小马")
    # 马 is unknown, and so is what it is part of.
    assert larger.words(read) == ["一", "只", "小", "只小", "狗", "小狗", "dog", "小", "<unk>"]
    assert larger.split("小狗") == ["小", "狗"]
    # What is written has each character once.
    assert larger.words(larger.spell("一只小狗, dog")) == ["一", "只", "小", "狗", "dog"]
    larger.save(tmp_path / "tokenizer.json")
    assert TextTokenizer.load(tmp_path / "tokenizer.json").encode("一只小狗, dog 小马") == read
    assert larger.encode("") == []


def test_a_text_of_marks_alone_has_no_words_that_are_known() -> None:
    tokenizer = TextTokenizer.build(["good", "\u597d", "!"], marks=True)
    features = TextFeatures()
    found = {
        text: features.notices([text], features.extract([text], tokenizer), tokenizer)
        for text in ("!!", "\U0001f600 !", "good!", "\u597d\u554a \u597d!!!!")
    }
    assert [bool(notices) for notices in found.values()] == [True, True, False, False]


@pytest.mark.parametrize(
    ("varied", "plain"),
    [
        ("\u2764\ufe0f good", "\u2764 good"),
        ("\u2764\ufe0e good", "\u2764 good"),
        ("7\ufe0f\u20e3 good", "7 good"),
        ("\U0001f44d\U0001f3fd good", "\U0001f44d good"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467 good", "\U0001f468 good"),
        ("\U0001f937\U0001f3fd\u200d\u2640\ufe0f good", "\U0001f937 good"),
        ("\U0001f3f4\U000e0067\U000e0062\U000e007f good", "\U0001f3f4 good"),
    ],
    ids=["as a picture", "as text", "a keycap", "a skin tone", "a family", "a shrugging woman", "a flag"],
)
@pytest.mark.parametrize("marks", [False, True])
def test_a_variation_of_an_emoji_is_the_same_word(varied: str, plain: str, marks: bool) -> None:
    tokenizer = TextTokenizer.build(["good", "7", "\u2764", "\U0001f44d"], marks=marks)
    assert tokenizer.encode(varied) == tokenizer.encode(plain)
    assert tokenizer.split(varied) == tokenizer.split(plain)


@pytest.mark.parametrize("text", ["\u0915\u094d\u200d\u0937", "a\u200d\U0001f600", "\U0001f600\u200da", "\u200d"])
def test_a_joiner_that_joins_no_emoji_is_left_to_the_script(text: str) -> None:
    tokenizer = TextTokenizer.build([], marks=True)
    assert "\u200d" in "".join(tokenizer.split(text))
    assert len(tokenizer.encode(text)) == len(tokenizer.split(text))


def replace(regex: str, content: str = " ") -> dict[str, Any]:
    """A step of a normalizer."""
    return {"type": "Replace", "pattern": {"Regex": regex}, "content": content}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda it: it["model"]["vocab"].update(dog=999), "not the numbers from 0 on"),
        (lambda it: it.update(normalizer=None), "its normalizer"),
        (lambda it: it.update(pre_tokenizer=None), "its pre_tokenizer"),
        (lambda it: it["normalizer"]["normalizers"].append({"type": "Prepend", "prepend": "x"}), "Prepend"),
        (lambda it: it["normalizer"]["normalizers"][2].update(content="x" * 1000), "a step that is not read"),
        (lambda it: it["normalizer"]["normalizers"].append(replace("(a|a)*c")), "a step that is not read"),
        (lambda it: it["normalizer"]["normalizers"].append(replace("a", "aaaaaaaa")), "a step that is not read"),
        (lambda it: it["normalizer"].update(normalizers=it["normalizer"]["normalizers"] * 2), "has it twice"),
        (lambda it: it["pre_tokenizer"]["pretokenizers"][1].update(pattern={"Regex": "(a+)+$"}), "its pre_tokenizer"),
        (lambda it: it["model"].update(unk_token="nowhere"), "its unknown words are 'nowhere', not <unk>"),
        (
            lambda it: it.update(
                padding={
                    "strategy": {"Fixed": 3_000_000}, "direction": "Right", "pad_to_multiple_of": None,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
                }
            ),
            "it has padding",
        ),
    ],
)  # fmt: skip
def test_a_tokenizer_of_another_kind_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    path = tmp_path / "tokenizer.json"
    TextTokenizer.build(["dog", "cat"]).save(path)
    described = json.loads(path.read_text(encoding="utf-8"))
    change(described)
    path.write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        TextTokenizer.load(path)
