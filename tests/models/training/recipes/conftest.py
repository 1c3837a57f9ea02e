"""What all tests of recipes share."""

from pathlib import Path

import pytest

from models.training.recipes import classifier
from models.training.recipes.av_speech.strangers import VOICES
from tests.models.training.recipes.sentences import write_sentences, write_voices


@pytest.fixture(scope="session")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of spoken sentences, seen and heard; other voices' lie beside it."""
    folder = tmp_path_factory.mktemp("sentences") / "grid"
    folder.mkdir()
    write_sentences(folder)
    write_voices(folder.parent / VOICES)
    return folder


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of each run's curves, which has a test of its own, takes longer than the run."""
    monkeypatch.setattr(classifier, "draw_curves", lambda log, picture: None)
