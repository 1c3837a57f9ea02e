"""`fusionrnn index` and `fusionrnn search`, as a person types them."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.search.moments import Annotator
from models.pipeline import Pipeline
from tests.app.search.checkpoints import BLUE, GREEN, RED, film, likeness, picture, tiny_embedder
from tests.support import tiny_captioner


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    tiny_captioner(root / "captioner")
    tiny_embedder(root / "embedder")
    return root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "red.png").write_bytes(picture(RED))
    (folder / "blue.png").write_bytes(picture(BLUE))
    (folder / "film.mp4").write_bytes(film(RED, GREEN))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff and no more")
    return folder


def run(models: Path, *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and complaints of a command."""
    given = [*map(str, arguments), "--model-dir", str(models), "--device", "cpu"]
    result = CliRunner().invoke(app, given)
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_is_indexed_searched_and_shown(models: Path, pictures: Path, tmp_path: Path) -> None:
    index, page = tmp_path / "my.index", tmp_path / "found.html"
    code, told, complaints = run(models, "index", pictures, "--out", index)
    assert code == 0
    assert "3 looked at, 0 unchanged, 0 removed, 1 skipped; 4 photos and seconds of video" in told
    assert "Skipped broken.jpg: " in complaints
    assert "index 4/4" in complaints
    _, told, _ = run(models, "index", pictures, "--out", index)
    assert "0 looked at, 3 unchanged" in told

    code, listed, complaints = run(models, "search", index, "--image", pictures / "blue.png", "--page", page)
    lines = [line.split() for line in listed.splitlines()]
    assert code == 0
    assert len(lines) == 3
    annotator = Annotator(Pipeline.load(models / "embedder"), Pipeline.load(models / "captioner"))
    assert float(lines[0][0]) == pytest.approx(likeness(annotator, picture(BLUE)), abs=0.01)
    assert lines[0][1] == "blue.png"
    (film_line,) = [line for line in lines if line[1] == "film.mp4"]
    assert film_line[2] in ("0:00", "0:01")
    assert str(page) in complaints
    assert page.read_text(encoding="utf-8").count("<figure>") == 3

    code, listed, _ = run(models, "search", index, "一只小狗", "--limit", "2", "--page", page)
    assert (code, len(listed.splitlines())) == (0, 2)
    assert "一只小狗" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("search", "NONE", "a dog"), "fusionrnn index"),
        (("search", "INDEX"), "one of the two"),
        (("search", "INDEX", "a dog", "--image", "PHOTO"), "one of the two"),
        (("search", "INDEX", "--image", "BROKEN"), "corrupt"),
        (("search", "INDEX", "x" * 20_001), "20000"),
        (("search", "INDEX", "a dog", "--page", "FOLDER"), "cannot be written"),
        (("search", "INDEX", "a dog", "--model", "captioner"), "does not embed"),
        (("search", "INDEX", "a dog", "--model", "poet"), "no checkpoint 'poet'"),
        (("search", "PHOTO", "a dog"), "is not an index"),
        (("index", "FOLDER", "--out", "PHOTO"), "is not an index"),
        (("index", "FOLDER", "--out", "INDEX"), "was made with no captioner"),
        (("index", "FOLDER", "--out", "INDEX", "--captioner", "image-text-embedding"), "does not caption"),
    ],
)
def test_what_is_wrong_is_said(
    models: Path, pictures: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert run(models, "index", pictures, "--out", tmp_path / "my.index", "--captioner", "")[0] == 0
    places = {
        "INDEX": tmp_path / "my.index",
        "NONE": tmp_path / "none",
        "PHOTO": pictures / "red.png",
        "BROKEN": pictures / "broken.jpg",
        "FOLDER": pictures,
    }
    default = () if "--page" in arguments or arguments[0] == "index" else ("--page", tmp_path / "page.html")
    code, _, complaints = run(models, *(places.get(argument, argument) for argument in arguments), *default)
    assert (code, said in complaints) == (1, True), complaints
    assert (pictures / "red.png").read_bytes() == picture(RED)


def test_a_photo_that_cannot_be_read_is_said(
    models: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(models, "index", pictures, "--out", tmp_path / "my.index", "--captioner", "")[0] == 0
    photo, page, read = pictures / "red.png", tmp_path / "page.html", Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == photo:
            raise PermissionError("not for you")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    code, _, complaints = run(models, "search", tmp_path / "my.index", "--image", photo, "--page", page)
    assert (code, complaints.splitlines()[-1]) == (1, f"{photo} cannot be read: not for you")


def test_another_folder_does_not_take_the_place_of_the_first(models: Path, pictures: Path, tmp_path: Path) -> None:
    index, page = tmp_path / "my.index", tmp_path / "page.html"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "green.png").write_bytes(picture(GREEN))
    assert run(models, "index", pictures, "--out", index, "--captioner", "")[0] == 0
    code, _, complaints = run(models, "index", tmp_path / "other", "--out", index, "--captioner", "")
    assert code == 1
    assert f"is of {pictures.resolve()}" in complaints
    assert "give another --out" in complaints
    _, listed, _ = run(models, "search", index, "--image", pictures / "red.png", "--page", page)
    assert "red.png" in listed


def test_that_there_is_nothing_is_said(models: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    index = tmp_path / "my.index"
    code, told, complaints = run(models, "index", tmp_path / "empty", "--out", index, "--captioner", "")
    assert (code, "0 photos" in told, "empty has no photos or videos" in complaints) == (0, True, True)
    code, listed, complaints = run(models, "search", index, "a dog", "--page", tmp_path / "page.html")
    assert (code, listed, "Nothing found: " in complaints) == (0, "", True)


def test_a_folder_that_has_become_empty_is_refused_until_it_is_confirmed(
    models: Path, pictures: Path, tmp_path: Path
) -> None:
    asked = ("index", pictures, "--out", tmp_path / "my.index", "--captioner", "")
    assert run(models, *asked)[0] == 0
    for path in pictures.iterdir():
        path.unlink()
    code, _, complaints = run(models, *asked)
    assert (code, "which were left as they are" in complaints) == (1, True)
    code, told, _ = run(models, *asked, "--allow-empty")
    assert (code, "3 removed" in told) == (0, True)


def test_a_page_replaces_nothing_but_a_page(models: Path, pictures: Path, tmp_path: Path) -> None:
    index, page = tmp_path / "my.index", tmp_path / "page.html"
    assert run(models, "index", pictures, "--out", index, "--captioner", "")[0] == 0
    for other in (index, pictures / "red.png"):
        before = other.read_bytes()
        code, _, complaints = run(models, "search", index, "a dog", "--page", other)
        assert (code, f"{other} is not a page" in complaints) == (1, True)
        assert other.read_bytes() == before
    for _ in range(2):
        assert run(models, "search", index, "a dog", "--page", page)[0] == 0


def test_a_page_that_a_full_disk_cuts_short_leaves_the_one_before(
    models: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, page, link = tmp_path / "my.index", tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(page)
    assert run(models, "index", pictures, "--out", index, "--captioner", "")[0] == 0
    assert run(models, "search", index, "a dog", "--page", link)[0] == 0
    assert link.is_symlink()
    before = page.read_bytes()
    write = Path.write_text

    def full(path: Path, text: str, **given: str) -> int:
        write(path, text[:9], **given)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        code, _, complaints = run(models, "search", index, "a cat", "--page", page)
    assert (code, "cannot be written" in complaints) == (1, True)
    assert page.read_bytes() == before
    assert run(models, "search", index, "a cat", "--page", page)[0] == 0


def test_a_pipe_is_written_to_and_stays_one(models: Path, pictures: Path, tmp_path: Path) -> None:
    index, pipe = tmp_path / "my.index", tmp_path / "pipe"
    assert run(models, "index", pictures, "--out", index, "--captioner", "")[0] == 0
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert run(models, "search", index, "a dog", "--page", pipe)[0] == 0
        assert b"<figure>" in reader.communicate(timeout=60)[0]
    assert pipe.is_fifo()


def test_what_is_noticed_of_a_query_is_said(models: Path, pictures: Path, tmp_path: Path) -> None:
    index, page = tmp_path / "my.index", tmp_path / "page.html"
    assert run(models, "index", pictures, "--out", index, "--captioner", "")[0] == 0
    _, _, complaints = run(models, "search", index, "xqzzv", "--page", page)
    assert "Of the text that was asked for: unknown_words." in complaints
    _, _, complaints = run(models, "search", index, "a dog", "--page", page)
    assert "unknown_words" not in complaints
