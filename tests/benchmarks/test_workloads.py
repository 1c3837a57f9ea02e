"""What is drawn has the stated sizes, decodes, and is the same every time."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.media import photo, sentence, sound, talking_face
from benchmarks.serving.workloads import WORKLOADS, ZOO, Workload
from models.features.mouth import MouthFeatures
from models.media.audio import decode_audio
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.pipeline import Pipeline


def test_a_photo_has_its_pixels_and_about_a_photos_bytes() -> None:
    data = photo(np.random.default_rng(0), 0.8)
    height, width = decode_image(data, MediaLimits()).shape[:2]
    assert height * width == pytest.approx(8e5, rel=0.02)
    assert 0.2 < len(data) / (height * width) < 0.8


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
def test_a_sound_has_its_length(kind: str) -> None:
    data = sound(np.random.default_rng(0), 1.5, kind)
    assert len(decode_audio(data, MediaLimits()).samples) == pytest.approx(24_000, rel=0.05)


def test_a_sentence_has_its_words() -> None:
    words = sentence(np.random.default_rng(0), 40, ["a", "dog", "runs"]).decode().split()
    assert len(words) == 40
    assert words.count("a") > words.count("runs")


def test_a_clip_shows_a_face() -> None:
    (found,) = MouthFeatures().decode(
        "video", {"video": [talking_face(np.random.default_rng(0), 1.0)]}, MediaLimits(), 1
    )
    assert found.seen == 1
    assert len(found.lips) == 25


def test_a_pool_is_made_once(tmp_path: Path) -> None:
    drawn: list[int] = []

    def draw(rng: np.random.Generator) -> bytes:
        drawn.append(1)
        return rng.bytes(4)

    workload = Workload("w", "m", "audio", 1.0, 3, "bytes", draw)
    first = workload.pool(tmp_path)
    assert workload.pool(tmp_path) == first
    assert len(drawn) == len(set(first)) == 3


@pytest.mark.parametrize("workload", [one for one in WORKLOADS if one.shipped], ids=lambda workload: workload.name)
def test_a_checkpoint_answers_what_is_drawn_for_it(workload: Workload) -> None:
    assert workload.part in Pipeline.load(ZOO / workload.model).accepts
