"""What the benchmark of novelty counts."""

from pathlib import Path

from benchmarks.novelty import unfamiliar
from models.pipeline import Pipeline
from tests.models.test_novelty import knowing
from tests.support import encoded_photo, framed_photo, tiny_captioner


def test_strange_and_known_pictures_and_what_is_none_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(encoded_photo())
    (folder / "framed.png").write_bytes(framed_photo())
    (folder / "words.txt").write_text("no picture")
    captioner = tiny_captioner(tmp_path / "captioner")
    assert unfamiliar(knowing(Pipeline.load(captioner), image=1e-3), folder, "image") == ([True, True], 1)
    assert unfamiliar(knowing(Pipeline.load(captioner), image=1e3), folder, "image") == ([False, False], 1)
