"""An index follows its folder: what is new is looked at, what is there is left alone, what is broken is named."""

import errno
import os
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.search.folder import Listing, Update, photos_and_videos, update
from app.search.index import _SCHEMA, FolderIndex, Hit, IndexFault, Known
from app.search.moments import Annotator, Moment, Seen, Vector
from models.media.limits import MediaLimits
from models.pipeline import Pipeline
from models.tasks.captioning import Caption
from models.tasks.task import Query, Result
from tests.app.search.checkpoints import BLUE, GREEN, RED, asked_for, film, likeness, moment_of, picture, tiny_embedder
from tests.support import tiny_captioner


@pytest.fixture(scope="module")
def annotator(tmp_path_factory: pytest.TempPathFactory) -> Annotator:
    root = tmp_path_factory.mktemp("checkpoints")
    captioner = tiny_captioner(root / "captioner")
    return Annotator(Pipeline.load(tiny_embedder(root / "embedder")), Pipeline.load(captioner))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos, a film, and what is neither."""
    root = tmp_path / "pictures"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / "red.png").write_bytes(picture(RED))
    (root / "green").write_bytes(picture(GREEN, "JPEG"))
    (root / "deep" / "er" / "blue.jpg").write_bytes(picture(BLUE, "JPEG"))
    (root / "film.mp4").write_bytes(film(RED, GREEN, BLUE))
    (root / ".hidden" / "red.png").write_bytes(picture(RED))
    (root / "notes.txt").write_text("no picture")
    return root


@pytest.fixture
def index(tmp_path: Path, folder: Path, annotator: Annotator) -> Iterator[FolderIndex]:
    with FolderIndex(tmp_path / "my.index", model=annotator.model, size=annotator.size, folder=folder) as opened:
        yield opened


def run(index: FolderIndex, folder: Path, annotator: Annotator, **limits: int) -> Update:
    return update(index, folder, photos_and_videos(folder), annotator, MediaLimits(**limits), lambda path: None)


def nearest(index: FolderIndex, annotator: Annotator, data: bytes, limit: int = 10) -> list[Hit]:
    return index.search(asked_for(annotator, "image", data), limit, apart=0.9)


def test_every_photo_and_every_second_is_found(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    assert run(index, folder, annotator) == Update(added=4)
    assert index.paths() == {"red.png", "green", "deep/er/blue.jpg", "film.mp4"}
    assert len(index) == 6
    for colour, path, seconds in ((RED, "red.png", 0.5), (GREEN, "green", 1.5), (BLUE, "deep/er/blue.jpg", 2.5)):
        first, second = nearest(index, annotator, picture(colour), 2)
        assert {(first.path, first.seconds), (second.path, second.seconds)} == {(path, None), ("film.mp4", seconds)}
        assert first.score == pytest.approx(likeness(annotator, picture(colour)), abs=0.01)
        assert first.captions.keys() == {"en", "zh"}
        assert first.thumbnail.startswith(b"\xff\xd8")


def test_a_moment_is_found_by_its_picture_and_a_little_by_what_might_be_said_of_it(annotator: Annotator) -> None:
    assert annotator.captioner is not None
    image, (_, shown) = asked_for(annotator, "image", picture(RED)), *annotator.pictures(picture(RED), MediaLimits())
    said = np.zeros_like(image)
    for language in ("en", "zh"):
        answer = annotator.captioner.answer({"image": picture(RED)}, language=language, num_captions=3)
        said += np.mean([asked_for(annotator, "text", caption["text"]) for caption in written(answer)], 0)
    wanted = image + 0.15 * said
    (moment,) = annotator.moments([(None, shown)])
    assert moment.vector == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)


def test_of_its_captions_a_moment_has_the_one_that_fits_its_picture_and_is_likely(annotator: Annotator) -> None:
    image = asked_for(annotator, "image", picture(RED))
    near, far = sorted(("a dog", "snow"), key=lambda text: -float(asked_for(annotator, "text", text) @ image))
    gain = 4 * float((asked_for(annotator, "text", near) - asked_for(annotator, "text", far)) @ image)
    assert gain > 0.05
    for loss, kept in ((0.02, near), (-0.02, far)):
        told = [Caption(text=far, language="en", log_probability=-1, score=gain - loss)]
        told.append(Caption(text=near, language="en", log_probability=-9, score=0))
        assert read(annotator, image, en=told).captions == {"en": kept}


def test_what_the_embedding_cannot_read_says_nothing(annotator: Annotator) -> None:
    image, dog = (asked_for(annotator, "image", picture(RED)), asked_for(annotator, "text", "小狗"))
    strange, known = (Caption(text=text, language="en", log_probability=-1) for text in ("zyzzyva", "小狗"))
    moment = read(annotator, image, en=[strange, strange], zh=[strange, known])
    assert moment.captions == {"en": "zyzzyva", "zh": "小狗"}
    wanted = image + 0.15 * dog
    assert moment.vector == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-5)


def read(annotator: Annotator, image: Vector, **captions: list[Caption]) -> Moment:
    seen = Seen(None, image, captions, b"", ())
    return annotator.read(seen, [asked.answer() for asked in annotator.readings(seen)])


def written(answer: Result) -> list[dict[str, Any]]:
    captions: list[dict[str, Any]] = answer.model_dump()["captions"]
    assert len(captions) == 3
    return captions


def test_without_captions_or_words_to_read_them_a_moment_is_found_by_its_picture_alone(
    tmp_path: Path, annotator: Annotator
) -> None:
    deaf = Pipeline.load(tiny_embedder(tmp_path / "vectors", reads=False))
    for alone in (Annotator(annotator.embedder), Annotator(deaf, annotator.captioner)):
        image = asked_for(alone, "image", picture(RED))
        assert moment_of(alone, picture(RED)).vector == pytest.approx(image, abs=1e-5)


def test_what_has_not_changed_is_not_looked_at_again(
    index: FolderIndex, folder: Path, annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(index, folder, annotator)
    os.utime(folder / "green", ns=(1, 1))
    shutil.copy(folder / "red.png", folder / "copy.png")
    (folder / "deep" / "er" / "blue.jpg").rename(folder / "moved.jpg")

    def refuse(self: Pipeline, queries: list[Query]) -> None:
        raise AssertionError("a network was asked again")

    monkeypatch.setattr(Pipeline, "predict_batch", refuse)
    assert run(index, folder, annotator) == Update(added=2, unchanged=3, removed=1)
    assert index.paths() == {"red.png", "copy.png", "green", "moved.jpg", "film.mp4"}
    assert run(index, folder, annotator) == Update(unchanged=5)


def test_what_has_changed_is_replaced_and_what_is_gone_is_forgotten(
    index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    run(index, folder, annotator)
    (folder / "red.png").write_bytes(picture(BLUE))
    (folder / "film.mp4").unlink()
    assert run(index, folder, annotator) == Update(added=1, unchanged=2, removed=1)
    assert len(index) == 3
    assert {hit.path for hit in nearest(index, annotator, picture(BLUE), 2)} == {"red.png", "deep/er/blue.jpg"}


def test_a_folder_that_has_become_empty_takes_nothing_along_unasked(
    index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    run(index, folder, annotator)
    known = index.paths()
    folder.rename(folder.with_name("unmounted"))
    folder.mkdir()
    with pytest.raises(IndexFault, match=r"has 4 of it, .* --allow-empty"):
        run(index, folder, annotator)
    assert index.paths() == known
    done = update(index, folder, Listing(), annotator, MediaLimits(), lambda path: None, may_empty=True)
    assert done == Update(removed=4)
    assert (index.paths(), len(index)) == (set(), 0)
    # There is nothing left to lose.
    assert run(index, folder, annotator) == Update()


def test_a_broken_file_is_named_and_the_others_are_taken(
    index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    (folder / "broken.jpg").write_bytes(picture(RED, "JPEG")[:200])
    (folder / "cut.mp4").write_bytes(film(RED)[:300])
    (folder / "letter.jpg").write_text("not a photo at all")
    (folder / "gone.png").symlink_to("nowhere")
    (folder / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    done = run(index, folder, annotator)
    assert done.added == 4
    assert done.skipped.keys() == {"broken.jpg", "cut.mp4", "letter.jpg", "gone.png", "photo.heic"}
    assert "corrupt" in done.skipped["broken.jpg"]
    assert "plain text" in done.skipped["letter.jpg"]
    assert "HEIC" in done.skipped["photo.heic"]


def test_a_file_that_breaks_later_is_forgotten(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    run(index, folder, annotator)
    (folder / "red.png").write_bytes(picture(RED)[:50])
    done = run(index, folder, annotator)
    assert (list(done.skipped), done.removed) == (["red.png"], 1)
    assert "red.png" not in index.paths()


def test_limits_hold(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    done = run(index, folder, annotator, video_bytes=100)
    assert (done.added, list(done.skipped)) == (3, ["film.mp4"])
    assert "100 bytes" in done.skipped["film.mp4"]


def test_what_has_too_many_bytes_is_not_read(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    with (folder / "film.mp4").open("ab") as opened:
        opened.truncate(2**26)
    tracemalloc.start()
    try:
        done = run(index, folder, annotator, video_bytes=2**25)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    assert "FUSIONRNN_LIMITS__VIDEO_BYTES" in done.skipped["film.mp4"]


def test_pictures_are_looked_at_together(
    index: FolderIndex, folder: Path, annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        (folder / f"{number}.png").write_bytes(picture((25 * number, 0, 0)))
    shutil.copy(folder / "8.png", folder / "9.png")
    sizes: dict[str, list[int]] = {}
    real = Pipeline.predict_batch

    def counted(self: Pipeline, queries: list[Query]) -> list[Result]:
        sizes.setdefault(self.config.task, []).append(len(queries))
        return real(self, queries)

    monkeypatch.setattr(Pipeline, "predict_batch", counted)
    assert run(index, folder, annotator) == Update(added=14)
    # The first eight, the one that is there twice, the film, and what is left; behind them their captions.
    languages = 2
    pictures = [8, 1, 3, 3]
    captions = [count * languages for count in pictures]
    texts = [3 * count for count in captions]
    assert sizes == {"embedding": [*chain.from_iterable(zip(pictures, texts, strict=True))], "captioning": captions}
    assert len(index) == 16
    monkeypatch.undo()
    for path, colour in {"4.png": (100, 0, 0), "9.png": (200, 0, 0), "red.png": RED}.items():
        (found,) = [hit for hit in nearest(index, annotator, picture(colour), 20) if hit.path == path]
        assert found.score == pytest.approx(likeness(annotator, picture(colour)), abs=1e-3)


def test_neighbours_in_time_count_once(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    run(index, folder, annotator)
    question = annotator.query({"image": [picture(RED)]}, MediaLimits())
    vector = annotator.query_vector(question.answer())
    assert len(index.search(vector, 10)) == 4
    assert len(index.search(vector, 10, apart=1.0)) == 6
    assert len(index.search(vector, 2, apart=1.0)) == 2
    # Of the film's three seconds the red one is the best, and those two from it are far enough.
    assert [hit.seconds for hit in index.search(vector, 10, apart=1.5) if hit.path == "film.mp4"] == [0.5, 2.5]


def test_an_index_is_for_one_checkpoint(tmp_path: Path, index: FolderIndex, annotator: Annotator) -> None:
    other = Annotator(Pipeline.load(tiny_embedder(tmp_path / "other", seed=1)))
    assert other.model != annotator.model
    with pytest.raises(IndexFault, match="was made with image-text-embedding"):
        FolderIndex(index.path, model=other.model, size=other.size)


def test_a_refused_index_still_has_its_folder(
    tmp_path: Path, index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    for model, captioner in (("another", ""), (annotator.model, "another")):
        with pytest.raises(IndexFault, match="was made with"):
            FolderIndex(index.path, model=model, size=index.size, folder=tmp_path, captioner=captioner)
    assert index.folder == folder


@pytest.mark.parametrize("content", [b"", b"not a database, and long enough for one" * 100])
def test_another_file_is_no_index(tmp_path: Path, annotator: Annotator, content: bytes) -> None:
    path = tmp_path / "other.file"
    path.write_bytes(content)
    with pytest.raises(IndexFault, match="is not an index"):
        FolderIndex(path, model=annotator.model, size=annotator.size)
    assert path.read_bytes() == content


def test_an_index_that_is_not_there(tmp_path: Path, annotator: Annotator) -> None:
    with pytest.raises(IndexFault, match="fusionrnn index"):
        FolderIndex(tmp_path / "none", model=annotator.model, size=annotator.size)
    assert not (tmp_path / "none").exists()


def test_a_damaged_vector_is_said_to_be(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    run(index, folder, annotator)
    with index._database:
        index._database.execute("UPDATE moments SET vector = x'00'")
    with pytest.raises(IndexFault, match="damaged"):
        index.search(np.ones(annotator.size, np.float32), 3)


def test_a_full_disk_is_told_and_what_was_looked_at_stays(
    index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    run(index, folder, annotator)
    (pages,) = index._database.execute("PRAGMA page_count").fetchone()
    index._database.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(50):
        (folder / f"{number}.png").write_bytes(picture((number, 0, 0)))
    with pytest.raises(IndexFault, match=r"my.index cannot be read or written: database or disk is full"):
        run(index, folder, annotator)
    assert {"red.png", "film.mp4"} < index.paths()
    index._database.execute("PRAGMA max_page_count = 1000000")
    assert run(index, folder, annotator).unchanged >= 4
    assert len(index.paths()) == 54


def test_what_another_process_replaces_meanwhile_is_copied_whole(
    tmp_path: Path, index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    run(index, folder, annotator)
    red = index.known("red.png")
    assert red is not None
    moments = annotator.moments([(None, seen) for _, seen in annotator.pictures(picture((200, 0, 0)), MediaLimits())])
    with FolderIndex(tmp_path / "my.index", model=annotator.model, size=annotator.size) as other:
        other._database.execute("PRAGMA busy_timeout = 0")

        def replace(statement: str) -> None:
            if statement.startswith("SELECT seconds"):
                with suppress(IndexFault):
                    other.put("red.png", red, moments)

        index._database.set_trace_callback(replace)
        before = len(index)
        assert index.copy("again.png", red)
    assert len(index) == before + 1


def test_what_another_process_forgets_meanwhile_is_found_or_not(
    tmp_path: Path, index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    run(index, folder, annotator)
    with FolderIndex(tmp_path / "my.index", model=annotator.model, size=annotator.size, folder=folder) as other:
        other._database.execute("PRAGMA busy_timeout = 0")

        def forget(statement: str) -> None:
            if statement.startswith("SELECT path, seconds"):
                with suppress(IndexFault):
                    other.remove(other.paths())

        index._database.set_trace_callback(forget)
        assert len(nearest(index, annotator, picture(RED))) == 6
        index._database.set_trace_callback(None)
        other.remove(other.paths())
    assert nearest(index, annotator, picture(RED)) == []


def test_what_another_process_takes_in_meanwhile_stays(
    tmp_path: Path, index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    listing = photos_and_videos(folder)
    with FolderIndex(tmp_path / "my.index", model=annotator.model, size=annotator.size, folder=folder) as other:
        done = update(index, folder, listing, annotator, MediaLimits(), lambda _: other.put("later.png", KNOWN, []))
    assert done.removed == 0
    assert "later.png" in index.paths()


KNOWN = Known(1, 1, "")


@pytest.mark.parametrize(
    "use",
    [
        lambda index: index.known("red.png"),
        lambda index: index.paths(),
        lambda index: index.put("red.png", KNOWN, []),
        lambda index: index.copy("red.png", KNOWN),
        lambda index: index.remove(["red.png"]),
        len,
        lambda index: index.search(np.zeros(8, np.float32), 1),
        lambda index: index.folder,
    ],
    ids=["known", "paths", "put", "copy", "remove", "len", "search", "folder"],
)
def test_whatever_fails_in_the_database_is_the_indexs_fault(
    index: FolderIndex, use: Callable[[FolderIndex], Any]
) -> None:
    index._database.close()
    with pytest.raises(IndexFault, match=r"my.index"):
        use(index)


def test_an_empty_index_finds_nothing(index: FolderIndex, annotator: Annotator) -> None:
    assert index.search(np.ones(annotator.size, np.float32), 3) == []


def test_what_cannot_be_read_now_is_remembered_and_named(
    index: FolderIndex, folder: Path, annotator: Annotator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(index, folder, annotator)
    (folder / "film.mp4").unlink()
    monkeypatch.setattr("app.search.folder.os.scandir", _refusing(os.scandir, folder / "deep" / "er"))
    touched = folder / "red.png"
    os.utime(touched, (1, 1))
    monkeypatch.setattr(Path, "open", _refusing(Path.open, touched))
    done = run(index, folder, annotator)
    assert done.skipped.keys() == {"deep/er", "red.png"}
    assert all("Input/output error" in reason for reason in done.skipped.values())
    assert done.removed == 1
    assert index.paths() == {"red.png", "green", "deep/er/blue.jpg"}


def _refusing(given: Callable[..., Any], place: Path) -> Callable[..., Any]:
    """The same function, to which one place on the disk gives an error."""

    def call(path: Any, *args: Any, **options: Any) -> Any:
        if Path(path) == place:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(place))
        return given(path, *args, **options)

    return call


def test_what_vanishes_meanwhile_is_remembered_until_it_is_listed_no_more(
    index: FolderIndex, folder: Path, annotator: Annotator
) -> None:
    run(index, folder, annotator)
    known, listing = index.paths(), photos_and_videos(folder)
    unplugged = folder.rename(folder.with_name("unplugged"))
    done = update(index, folder, listing, annotator, MediaLimits(), lambda path: None)
    assert (done.removed, index.paths(), set(done.skipped)) == (0, known, known)
    unplugged.rename(folder)
    (folder / "red.png").unlink()
    assert run(index, folder, annotator) == Update(unchanged=3, removed=1)


def test_a_link_to_a_folder_is_named(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    (folder / "loop").symlink_to(folder)
    done = run(index, folder, annotator)
    assert (done.added, list(done.skipped)) == (4, ["loop"])
    assert "index that folder by itself" in done.skipped["loop"]


def test_an_index_whose_making_was_cut_short_is_made(
    tmp_path: Path, annotator: Annotator, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> int:
        path = tmp_path / "new.index"
        with FolderIndex(path, model=annotator.model, size=annotator.size, folder=folder) as opened:
            return len(opened)

    with monkeypatch.context() as patched:
        patched.setattr("app.search.index._SCHEMA", (*_SCHEMA[:3], "and no more"))
        with pytest.raises(IndexFault, match="syntax error"):
            make()
    assert make() == 0


def test_a_folder_whose_name_an_index_cannot_hold_is_refused(tmp_path: Path, annotator: Annotator) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(IndexFault, match="not UTF-8: rename it"):
        FolderIndex(tmp_path / "my.index", model=annotator.model, size=annotator.size, folder=folder)


def test_odd_files_do_not_stop_the_rest(index: FolderIndex, folder: Path, annotator: Annotator) -> None:
    shutil.copy(folder / "red.png", folder / os.fsdecode(b"caf\xe9.png"))
    (folder / os.fsdecode(b"\xff")).mkdir()
    os.mkfifo(folder / "pipe.jpg")
    done = run(index, folder, annotator)
    assert done.added == 4
    assert done.skipped.keys() == {"caf\\xe9.png", "\\xff"}
    assert all("rename" in reason for reason in done.skipped.values())
