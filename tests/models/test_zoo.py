"""The shipped checkpoints, each as a stranger finds it."""

import io
from pathlib import Path

import pytest
from PIL import Image

from app.settings import ZOO
from models.media import MediaLimits
from models.pipeline import Pipeline
from tests.repository.project import ROOT

FOLDERS = sorted(path for path in ZOO.iterdir() if path.is_dir())
PICTURES = ROOT / "docs" / "results" / "pictures"
MOST_BYTES, MOST_BYTES_TOGETHER = 25 * 10**6, 60 * 10**6


def size(folders: list[Path]) -> int:
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*"))


def meadow() -> bytes:
    """Sky above grass: nothing a caption could go wrong on entirely."""
    picture = Image.new("RGB", (400, 300), (120, 170, 240))
    picture.paste((60, 140, 50), (0, 150, 400, 300))
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


def test_the_zoo_is_not_empty_and_small_enough() -> None:
    assert "captioner" in [folder.name for folder in FOLDERS]
    assert size(FOLDERS) < MOST_BYTES_TOGETHER


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_each_checkpoint_runs_and_says_what_it_is(folder: Path) -> None:
    pipeline = Pipeline.load(folder)
    pipeline.warm_up()
    assert size([folder]) < MOST_BYTES
    assert pipeline.card
    assert pipeline.metrics
    assert {"dataset", "split", "n", "command", "figures"} <= pipeline.metrics.keys()


def test_the_captioner_writes_both_languages() -> None:
    pipeline = Pipeline.load(ZOO / "captioner")
    features = pipeline.features(pipeline.decode({"image": [meadow()]}, MediaLimits()))
    for language, letters in (("en", "abcdefghijklmnopqrstuvwxyz' "), ("zh", None)):
        options = pipeline.options.model_validate({"language": language, "num_captions": 3})
        captions = pipeline.predict(features, options).model_dump()["captions"]
        texts = [caption["text"] for caption in captions]
        assert len(set(texts)) == 3
        for text in texts:
            assert len(text) >= 4
            if letters:
                assert set(text) <= set(letters)
            else:
                assert sum("\u4e00" <= character <= "\u9fff" for character in text) > len(text) / 2


@pytest.mark.parametrize("name", ["captioner", "image-text-embedding"])
def test_a_diagram_is_unfamiliar_to_who_knows_photos_alone(name: str) -> None:
    pipeline = Pipeline.load(ZOO / name)
    diagram = (PICTURES / "av-speech-wer.png").read_bytes()
    assert pipeline.answer({"image": diagram}).notices == {"image": ["unfamiliar"]}


@pytest.mark.parametrize("name", ["captioner", "image-text-embedding"])
def test_a_photo_of_a_man_is_familiar(name: str) -> None:
    """The first of the photos in a picture of the results, since people's own are no part of the project."""
    with Image.open(PICTURES / "captioner-attention.png") as page:
        photo = page.convert("RGB").crop((6, 36, 230, 260))
    file = io.BytesIO()
    photo.save(file, "JPEG")
    answer = Pipeline.load(ZOO / name).answer({"image": file.getvalue()})
    assert answer.notices is None
    assert answer.modalities["image"].novelty is not None
