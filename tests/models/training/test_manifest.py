from pathlib import Path

import pytest

from models.training.manifest import DataError, read_manifest


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n', encoding="utf-8-sig")
    assert read_manifest(tmp_path, "train").examples == [{"text": "a"}]


def test_another_encoding_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n', encoding="utf-16")
    with pytest.raises(DataError, match=r"is not UTF-8 text: byte 0 is .*; save it as UTF-8"):
        read_manifest(tmp_path, "train")


@pytest.mark.parametrize("line", [r'{"label": "\ud800"}', r'{"image": "a\uDFFF.png"}', r'{"label": ["\ud800"]}'])
def test_half_of_a_character_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.jsonl").write_text(f'{{"label": "\\ud83d\\ude00"}}\n{line}\n')
    with pytest.raises(DataError, match=r"train.jsonl, line 2, has half of a character, a lone \\ud800 to \\udfff"):
        read_manifest(tmp_path, "train")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"value": ' + "1" * 5000 + "}", "has a number of thousands of digits: mend it"),
        ('{"value": ' + "[" * 100_000 + "]" * 100_000 + "}", "has too many brackets within each other: mend it"),
    ],
    ids=["digits", "brackets"],
)
def test_json_beyond_what_is_read_is_refused(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "train.jsonl").write_text(f'{{"value": 1}}\n{line}\n')
    with pytest.raises(DataError, match=rf"train.jsonl, line 2, {said}"):
        read_manifest(tmp_path, "train")


def test_a_manifest_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").mkdir()
    with pytest.raises(DataError, match=r"train.jsonl cannot be read \(Is a directory\): it must be a file"):
        read_manifest(tmp_path, "train")


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ((), r'test.jsonl does not exist: put one JSON object a line, such as {"image": .*} into it$'),
        (("train.jsonl", "val.jsonl"), r"test.jsonl does not exist, but train.jsonl, val.jsonl: put"),
        (("test.csv",), r"test.jsonl does not exist: .*; test.csv is not read$"),
    ],
    ids=["none", "others", "csv"],
)
def test_a_missing_manifest_is_refused_with_what_is_there(tmp_path: Path, there: tuple[str, ...], said: str) -> None:
    for name in there:
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=said):
        read_manifest(tmp_path, "test")
