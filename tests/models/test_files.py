"""A file is written whole or not at all."""

from pathlib import Path

import pytest

from models.files import replacing, write_whole


def cut_short(path: Path) -> None:
    with replacing(path) as written:
        written.write_text("ne")
        assert path.read_text() == "old"
        raise KeyError


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    with replacing(path) as written:
        written.write_text("old")
    with pytest.raises(KeyError):
        cut_short(path)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("kept.json", "old")]
    with replacing(path) as written:
        written.write_text("new")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("kept.json", "new")]


def test_no_other_file_beside_it_is_touched(tmp_path: Path) -> None:
    (tmp_path / "page.tmp").write_text("a user's own")
    write_whole(tmp_path / "page.html", "a page")
    assert (tmp_path / "page.tmp").read_text() == "a user's own"
    write_whole(tmp_path / "page.tmp", "a page")
    assert (tmp_path / "page.tmp").read_text() == "a page"


def test_a_text_whose_disk_is_full_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, "{}\n")

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    assert path.read_text() == "{}\n"
