"""What all tests of recipes share."""

import pytest

from models.training.recipes import classifier


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of each run's curves, which has a test of its own, takes longer than the run."""
    monkeypatch.setattr(classifier, "draw_curves", lambda log, picture: None)
