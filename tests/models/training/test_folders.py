import json
import os
import resource
from pathlib import Path

import pytest

from models.training.folders import write_manifests
from models.training.manifest import DataError
from tests.support import encoded_photo


def make(folder: Path, count: int = 10) -> Path:
    """Two classes of ``count`` examples, each a picture, and a text and a sound for every second one."""
    for label in ("calm", "alarm"):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number}.jpg").write_bytes(encoded_photo())
            if number % 2:
                (folder / label / f"{number}.txt").write_text(f"{label} {number}\n")
    return folder


def lines(folder: Path, split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_files_of_one_name_are_one_example(tmp_path: Path) -> None:
    (make(tmp_path) / "calm" / "notes.bin").write_bytes(b"\0\1\2")
    written = write_manifests(tmp_path)
    assert (written.examples, written.ignored) == ({"train": 16, "val": 4}, ["calm/notes.bin"])
    train, val = lines(tmp_path, "train"), lines(tmp_path, "val")
    assert sorted(line["label"] for line in val) == ["alarm", "alarm", "calm", "calm"]
    assert not {line["image"] for line in train} & {line["image"] for line in val}
    everything = {line["image"]: line for line in train + val}
    assert everything["calm/3.jpg"] == {"image": "calm/3.jpg", "text": "calm 3", "label": "calm"}
    assert everything["calm/4.jpg"] == {"image": "calm/4.jpg", "label": "calm"}


def test_what_programs_keep_beside_the_files_is_not_listed(tmp_path: Path) -> None:
    make(tmp_path, 5)
    for hidden in (".ipynb_checkpoints", "more/.thumbnails", "__MACOSX/more"):
        (tmp_path / "calm" / hidden).mkdir(parents=True)
        (tmp_path / "calm" / hidden / "0.jpg").write_bytes(encoded_photo())
    (tmp_path / "calm" / "more" / "5.jpg").write_bytes(encoded_photo())
    written = write_manifests(tmp_path)
    assert (sum(written.examples.values()), written.ignored) == (11, [])
    assert "calm/more/5.jpg" in {line["image"] for line in lines(tmp_path, "train") + lines(tmp_path, "val")}


def test_a_folder_that_is_divided_already_stays_so(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        make(tmp_path / split, count)
    assert write_manifests(tmp_path).examples == {"train": 6, "val": 4, "test": 2}
    assert lines(tmp_path, "test") == [{"image": f"test/{label}/0.jpg", "label": label} for label in ("alarm", "calm")]
    assert {line["label"] for line in lines(tmp_path, "train")} == {"alarm", "calm"}


@pytest.mark.parametrize("other", ["valid", "test"])
def test_splits_of_other_names_are_not_taken_for_classes(tmp_path: Path, other: str) -> None:
    make(tmp_path / "train", 2)
    make(tmp_path / other, 2)
    with pytest.raises(
        DataError, match=rf"is divided into .*{other}.*: call the two that are needed 'train' and 'val'"
    ):
        write_manifests(tmp_path)


def test_content_decides_what_a_file_is(tmp_path: Path) -> None:
    make(tmp_path, 2)
    (tmp_path / "calm" / "0.jpg").rename(tmp_path / "calm" / "0.dat")
    write_manifests(tmp_path)
    images = {line["image"] for line in lines(tmp_path, "train") + lines(tmp_path, "val")}
    assert "calm/0.dat" in images


def test_what_cannot_be_listed_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 subfolders: give it one a class"):
        write_manifests(tmp_path)
    make(tmp_path, 2)
    (tmp_path / "calm" / "0.jpeg").write_bytes(encoded_photo())
    with pytest.raises(DataError, match=r"calm/0.jpg and calm/0.jpeg are both the image"):
        write_manifests(tmp_path)
    (tmp_path / "calm" / "0.jpeg").unlink()
    write_manifests(tmp_path)
    with pytest.raises(DataError, match=r"already has train.jsonl and val.jsonl"):
        write_manifests(tmp_path)


def test_a_full_disk_leaves_no_manifest_behind(tmp_path: Path) -> None:
    make(tmp_path, 30)
    given, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_manifests(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given, hard))
    assert not [path.name for path in tmp_path.iterdir() if path.is_file()]
    assert write_manifests(tmp_path).examples == {"train": 48, "val": 12}


def test_texts_are_read_as_utf_8_and_empty_ones_left_out(tmp_path: Path) -> None:
    make(tmp_path, 4)
    (tmp_path / "calm" / "0.txt").write_text("ring", encoding="utf-8-sig")
    (tmp_path / "calm" / "2.txt").write_text(" \n")
    (tmp_path / "calm" / "9.txt").write_bytes(b"\xef\xbb\xbf")
    written = write_manifests(tmp_path)
    assert written.empty == ["calm/2.txt", "calm/9.txt"]
    everything = {line["image"]: line for line in lines(tmp_path, "train") + lines(tmp_path, "val")}
    assert everything["calm/0.jpg"]["text"] == "ring"
    assert "text" not in everything["calm/2.jpg"]
    assert len(everything) == 8


def test_a_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    make(tmp_path, 2)
    (tmp_path / "calm" / "0.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(DataError, match=r"calm/0.txt is not UTF-8 text: byte 3 is .*; save it as UTF-8"):
        write_manifests(tmp_path)


def test_a_file_name_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    make(tmp_path, 2)
    try:
        (tmp_path / "calm" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(encoded_photo())
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(DataError, match=r"name is not UTF-8: rename 'calm/caf.*\.jpg'"):
        write_manifests(tmp_path)
