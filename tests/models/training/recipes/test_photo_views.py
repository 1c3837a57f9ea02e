"""Views of photos in training, and the table of what a photo checkpoint makes of spoilt ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.training.recipes.captioner import robustness
from models.training.recipes.captioner.views import CROPPED, VIEWS, WHOLE, view_of
from tests.support import photo, tiny_captioner

PICTURE = np.asarray(photo(96, 72))


def test_the_first_views_are_the_photo_and_its_mirror_image() -> None:
    assert np.array_equal(view_of(PICTURE, 3, 0), PICTURE)
    assert np.array_equal(view_of(PICTURE, 3, 1), PICTURE[:, ::-1])


@pytest.mark.parametrize("view", range(VIEWS))
def test_a_view_is_the_same_picture_each_time_and_another_for_another_photo(view: int) -> None:
    first = view_of(PICTURE, 5, view)
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert np.array_equal(first, view_of(PICTURE, 5, view))
    if view >= WHOLE:
        other = view_of(PICTURE, 6, view)
        assert other.shape != first.shape or not np.array_equal(other, first)


def test_whatever_is_drawn_any_size_of_photo_has_all_views() -> None:
    for row in range(40):
        for height, width in ((1, 1), (2, 40), (224, 224)):
            small = np.full((height, width, 3), 90, np.uint8)
            for view in range(WHOLE + CROPPED, VIEWS):
                assert min(view_of(small, row, view).shape) >= 1


def test_spoilt_photos_are_darker_greyer_and_on_their_sides_among_others() -> None:
    views = [view_of(PICTURE, row, view) for row in range(40) for view in range(WHOLE + CROPPED, VIEWS)]
    assert any(view.mean() < 0.4 * PICTURE.mean() for view in views)
    assert any(np.ptp(view.astype(int), axis=2).max() == 0 for view in views)
    assert any(view.shape[0] > view.shape[1] for view in views)


def test_each_way_of_spoiling_has_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for number in range(3):
        photo(64, 48, seed=number).save(tmp_path / f"{number}.png")
        captions = {"en": ["a dog runs"], "zh": ["一只狗"]}
        lines.append(json.dumps({"image": f"{number}.png", "captions": captions}))
    (tmp_path / "val.jsonl").write_text("\n".join(lines))
    checkpoint = tiny_captioner(tmp_path / "captioner")
    robustness.main([str(checkpoint), "--data", str(tmp_path), "--photos", "2"])
    head, _, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("| photo | en, beam 3 | en, greedy | zh, beam 3 |")
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(robustness.WAYS)


def test_photos_are_spoilt_in_different_ways() -> None:
    plain = photo(500, 375)
    spoilt = {way: np.asarray(spoil(plain)) for way, spoil in robustness.WAYS.items()}
    assert np.array_equal(spoilt.pop("as it is"), np.asarray(plain))
    for picture in spoilt.values():
        assert picture.shape != (375, 500, 3) or not np.array_equal(picture, np.asarray(plain))


def test_data_without_captions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        robustness.main([str(tmp_path), "--data", str(tmp_path)])


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(64, 48).save(tmp_path / "0.png")
    (tmp_path / "val.jsonl").write_text(json.dumps({"image": "0.png", "captions": {"en": ["a dog"]}}))
    with pytest.raises(SystemExit):
        robustness.main([str(tmp_path), "--data", str(tmp_path)])
    assert "config.json" in capsys.readouterr().err
