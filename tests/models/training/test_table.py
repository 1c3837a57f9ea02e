"""A table of files and labels becomes the manifests that training reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.training.manifest import DataError
from models.training.table import write_table
from models.training.targets.captioning import CaptionTarget
from tests.support import encoded_photo


def make(folder: Path, text: str, *, name: str = "labels.csv", photos: int = 6, encoding: str = "utf-8") -> Path:
    """Photos and a table beside them."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number in range(photos):
        (folder / "photos" / f"{number}.jpg").write_bytes(encoded_photo())
    (folder / name).write_text(text, encoding=encoding)
    return folder / name


def lines(folder: Path, *splits: str) -> list[dict[str, Any]]:
    return [json.loads(line) for split in splits for line in (folder / f"{split}.jsonl").read_text().splitlines()]


ROWS = "".join(f"photos/{number}.jpg,{'dog' if number % 2 else 'cat'}\n" for number in range(6))


def test_a_column_of_files_is_a_medium_and_others_are_fields(tmp_path: Path) -> None:
    written = write_table(make(tmp_path, "file_name,category\n" + ROWS), tmp_path, {"label": "category"})
    assert written.examples == {"train": 4, "val": 2}
    assert sorted(line["label"] for line in lines(tmp_path, "val")) == ["cat", "dog"]
    found = {line["image"]: line["label"] for line in lines(tmp_path, "train", "val")}
    assert found == {f"photos/{number}.jpg": "dog" if number % 2 else "cat" for number in range(6)}


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.tsv", "path\tsentence\n" + "".join(f"photos/{n}.jpg\ta, b; {n}\n" for n in range(6)), "utf-8"),
        ("a.csv", "path;sentence\n" + "".join(f'photos/{n}.jpg;"a, b; {n}"\n' for n in range(6)), "utf-8-sig"),
        ("a.csv", "path,sentence\r\n" + "".join(f'photos/{n}.jpg, "a, b; {n}"\r\n' for n in range(6)), "utf-8"),
    ],
    ids=["tabs", "semicolons and a byte order mark", "spaces and carriage returns"],
)
def test_tables_are_read_as_programs_write_them(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    table = make(tmp_path, text, name=name, encoding=encoding)
    write_table(table, tmp_path, {"target_text": "sentence"})
    found = {line["image"]: line["target_text"] for line in lines(tmp_path, "train", "val")}
    assert found == {f"photos/{number}.jpg": f"a, b; {number}" for number in range(6)}


def test_quotation_marks_between_tabs_are_marks(tmp_path: Path) -> None:
    rows = "".join(f'photos/{number}.jpg\t"Well," he said.\n' for number in range(6))
    write_table(make(tmp_path, "path\tsentence\n" + rows), tmp_path, {"target_text": "sentence"})
    assert {line["target_text"] for line in lines(tmp_path, "train", "val")} == {'"Well," he said.'}


def test_rows_with_one_photo_stay_together(tmp_path: Path) -> None:
    rows = "".join(f"photos/{number}.jpg,{again}\n" for number in range(6) for again in range(3))
    write_table(make(tmp_path, "image,score\n" + rows), tmp_path, {}, share=0.5)
    train, val = ({line["image"] for line in lines(tmp_path, split)} for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 3)
    assert not train & val
    assert len(lines(tmp_path, "train")) == 9


def test_a_photo_with_several_labels_stays_together(tmp_path: Path) -> None:
    # Questions about photos: of each two are answered alike, and one is not.
    answers = [("yes", "yes", "two" if number < 5 else "red") for number in range(20)]
    rows = "".join(
        f"photos/{number}.jpg,what {place},{answer}\n"
        for number, several in enumerate(answers)
        for place, answer in enumerate(several)
    )
    write_table(make(tmp_path, "image,text,label\n" + rows, photos=20), tmp_path, {})
    train, val = lines(tmp_path, "train"), lines(tmp_path, "val")
    assert (len(train), len(val)) == (48, 12)
    assert not {line["image"] for line in train} & {line["image"] for line in val}
    assert {line["label"] for line in train} == {line["label"] for line in val} == {"yes", "two", "red"}


def test_rows_that_are_linked_by_any_of_their_media_stay_together(tmp_path: Path) -> None:
    # Of three rows the first two have a sound in common, and the last two a photo; all have the same text.
    rows = "".join(
        f"{3 * group + sound}.npy,photos/{3 * group + photo}.jpg,look\n"
        for group in range(10)
        for sound, photo in ((0, 0), (0, 1), (2, 1))
    )
    table = make(tmp_path, "audio,image,text\n" + rows, photos=30)
    for number in range(30):
        np.save(tmp_path / f"{number}.npy", np.zeros((1, 4), np.float32))
    write_table(table, tmp_path, {})
    train, val = lines(tmp_path, "train"), lines(tmp_path, "val")
    assert (len(train), len(val)) == (24, 6)
    for part in ("audio", "image"):
        assert not {line[part] for line in train} & {line[part] for line in val}


@pytest.mark.parametrize("name", ["captions", "target_text"])
def test_the_captions_of_one_photo_are_one_example(tmp_path: Path, name: str) -> None:
    rows = "".join(f"photos/{number}.jpg,caption {again}\n" for again in range(3) for number in range(6))
    written = write_table(make(tmp_path, "image,caption\n" + rows), tmp_path, {name: "caption"}, share=0.5)
    assert written.examples == {"train": 3, "val": 3}
    found = lines(tmp_path, "train", "val")
    assert {line["image"] for line in found} == {f"photos/{number}.jpg" for number in range(6)}
    captions = ["caption 0", "caption 1", "caption 2"]
    for line in found:
        assert line == {"image": line["image"], name: captions}
        assert CaptionTarget.value(line, CaptionTarget.field, ["image"]) == {"en": captions}


def test_rows_that_differ_in_more_than_a_sentence_or_in_nothing_stay_apart(tmp_path: Path) -> None:
    rows = ["0.jpg,a dog,x", "0.jpg,a cat,y", "1.jpg,a cow,x", "1.jpg,a cow,x", "none.jpg,a,x"]
    table = make(tmp_path, "image,target_text,label\n" + "".join(f"photos/{row}\n" for row in rows) + ",b,x\n,c,x\n")
    with pytest.raises(DataError, match="has 1 examples of 'y'"):
        write_table(table, tmp_path, {})
    table.write_text(table.read_text().replace(",label", ",kind"))
    write_table(table, tmp_path, {})
    assert len(lines(tmp_path, "train", "val")) == 7


@pytest.mark.parametrize("name", ["split", "Split", "SPLIT"])
def test_a_column_split_divides(tmp_path: Path, name: str) -> None:
    rows = "".join(f"photos/{number}.jpg,a,{split}\n" for number, split in enumerate(["train", "Dev", "train", "test"]))
    written = write_table(make(tmp_path, f"image,label,{name}\n" + rows), tmp_path, {})
    assert written.examples == {"train": 2, "val": 1, "test": 1}
    assert lines(tmp_path, "val") == [{"image": "photos/1.jpg", "label": "a"}]


def test_numbers_are_numbers_and_names_of_digits_are_not(tmp_path: Path) -> None:
    head = "text,value,label,target_text\n"
    table = make(tmp_path, head + "1,2.5,007,3\n2,-1e3,008,4\n3,,007,5\n4,4,008,6\n", photos=0)
    write_table(table, tmp_path, {}, share=0.5)
    found = {line["text"]: line for line in lines(tmp_path, "train", "val")}
    assert found["1"] == {"text": "1", "value": 2.5, "label": "007", "target_text": "3"}
    assert found["2"]["value"] == -1000.0
    assert "value" not in found["3"]
    assert found["4"]["value"] == 4


def test_paths_may_begin_where_the_table_lies(tmp_path: Path) -> None:
    table = make(tmp_path / "set", "image,label\n" + ROWS.replace("photos/", "photos/"))
    write_table(table, tmp_path, {})
    assert {line["image"] for line in lines(tmp_path, "train", "val")} == {f"set/photos/{n}.jpg" for n in range(6)}


def test_vectors_of_texts_may_lie_beside_the_table_as_well(tmp_path: Path) -> None:
    rows = "".join(f"{number}.npy,a\n" for number in range(3))
    table = make(tmp_path / "set", "text,label\n" + rows, photos=0)
    for number in range(3):
        np.save(table.parent / f"{number}.npy", np.zeros((1, 4), np.float32))
    write_table(table, tmp_path, {})
    assert {line["text"] for line in lines(tmp_path, "train", "val")} == {f"set/{number}.npy" for number in range(3)}


@pytest.mark.parametrize(
    ("name", "field"), [("note", "text"), ("text", "text"), ("target_text", "target_text"), ("captions", "captions")]
)
def test_files_of_texts_are_read(tmp_path: Path, name: str, field: str) -> None:
    rows = "".join(f"photos/{number}.jpg,notes/{number}.txt\n" for number in range(4))
    table = make(tmp_path, f"image,{name}\n" + rows)
    (tmp_path / "notes").mkdir()
    for number in range(4):
        (tmp_path / "notes" / f"{number}.txt").write_text(f"note {number}\n" if number else "", encoding="utf-8-sig")
    written = write_table(table, tmp_path, {})
    assert written.empty == ["notes/0.txt"]
    found = {line["image"]: line.get(field) for line in lines(tmp_path, "train", "val")}
    assert found == {"photos/0.jpg": None} | {f"photos/{number}.jpg": f"note {number}" for number in range(1, 4)}


def test_a_text_that_is_no_file_stays_as_it_is_beside_some_that_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a file")
    table = make(tmp_path, "text,label\na.txt,x\nas it stands,x\n", photos=0)
    write_table(table, tmp_path, {})
    assert {line["text"] for line in lines(tmp_path, "train", "val")} == {"from a file", "as it stands"}


def test_a_column_that_is_almost_of_numbers_is_told(tmp_path: Path) -> None:
    # Of names in digits none is said to be odd, be they classes or few.
    table = make(tmp_path, "text,label,age,kind\na,1,30,x\nb,1,NA,1\nc,x,31,y\nd,1,,y\ne,x,32,\n", photos=0)
    (said,) = write_table(table, tmp_path, {}).odd
    assert said.endswith(
        "labels.csv, line 3, column 'age': 'NA' is not a number, as most there are: the whole column is taken for text"
    )
    assert {line.get("age") for line in lines(tmp_path, "train", "val")} == {"30", "NA", "31", None, "32"}


def test_a_file_that_is_missing_is_left_for_training_to_name(tmp_path: Path) -> None:
    write_table(make(tmp_path, "file,label\n" + ROWS, photos=5), tmp_path, {})
    assert "photos/5.jpg" in {line["image"] for line in lines(tmp_path, "train", "val")}


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "must begin with a name for each column|has no rows"),
        ("image,label\n", {}, "has no rows below its first line"),
        ("image,image\nphotos/0.jpg,a\n", {}, "a name for each column, all different, not image, image"),
        ("image,label\nphotos/0.jpg\n", {}, r"line 2, has 1 cells, and there are 2 columns"),
        ('image,label\n\n"photos/0.jpg","a\nb"\n\nphotos/1.jpg\n', {}, r"line 6, has 1 cells, and there are 2"),
        ('image,split\n\nphotos/0.jpg,train\nphotos/1.jpg,"tr\nian"\n', {}, r"line 4, has the split 'tr\nian'"),
        ("image,value\nphotos/0.jpg,7\n\nphotos/1.jpg,NA\n", {}, r"line 4, column 'value': 'NA' is not a number, as a"),
        (
            "image;value\nphotos/0.jpg;7\nphotos/1.jpg;13,5\n",
            {},
            r"line 3, column 'value': '13,5' is not .* as in 13.5",
        ),
        ("image,x\nphotos/0.jpg,7\nphotos/1.jpg,\n,high\n", {"value": "x"}, r"line 4, column 'value': 'high' is not"),
        ("image,Split,split\nphotos/0.jpg,train,val\n", {}, r"two columns 'split': give the other one another name"),
        ("image,note\nphotos/0.jpg,labels.txt\nphotos/1.jpg,b.txt\n", {}, r"line 3, names b.txt, which does not exist"),
        ("image,label\n" + ROWS, {"label": "lable"}, "no column 'lable': did you mean 'label'"),
        ("image,label,x\nphotos/0.jpg,a,b\n", {"label": "x"}, "two columns 'label'"),
        ("image,label\nnone.jpg,a\n", {}, r"no column of files in .*, and none called 'text', but image, label"),
        ("image,label\nphotos/0.jpg,a\nphotos/1.jpg,b\n", {}, "has 1 examples of 'a': a class needs one to learn from"),
        (
            "image,split\nphotos/0.jpg,train\nphotos/1.jpg,trian\n",
            {},
            r"line 3, has the split 'trian': known are train",
        ),
        ("image,split\nphotos/0.jpg,train\n", {}, "no rows for val"),
        ("a,b\nphotos/0.jpg,photos/1.jpg\n", {}, r"line 2, has two of image"),
        ('image,label\n"photos/0.jpg,a\n', {}, "is no table in UTF-8"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, columns: dict[str, str], message: str) -> None:
    table = make(tmp_path, text)
    (tmp_path / "labels.txt").write_text("a text")
    with pytest.raises(DataError, match=message):
        write_table(table, tmp_path, columns)
    assert not list(tmp_path.glob("*.jsonl"))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"image,label\n\xff\xfe,a\n")
    with pytest.raises(DataError, match="is no table in UTF-8"):
        write_table(tmp_path / "labels.csv", tmp_path, {})


def test_manifests_are_not_overwritten(tmp_path: Path) -> None:
    table = make(tmp_path, "image,label\n" + ROWS)
    write_table(table, tmp_path, {})
    with pytest.raises(DataError, match=r"already has train\.jsonl and val\.jsonl"):
        write_table(table, tmp_path, {})
