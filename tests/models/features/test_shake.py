"""Shaking is told from moving on, and measured."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.features.face import follow
from models.features.shake import Path
from tests.models.features.faces import face, textured

SIDE = 100.0
PICTURE = textured(face(160, 120, 90))[..., 0]


def walked(places: list[tuple[int, int]]) -> Path:
    path = Path(51)
    for x, y in places:
        path.add(drawn(x, y), (160, 120, SIDE))
    return path


def drawn(x: int, y: int) -> NDArray[np.uint8]:
    return np.roll(PICTURE, (y, x), (0, 1))


def shaken(count: int, reach: float) -> list[tuple[int, int]]:
    return [(round(reach * np.sin(n * 0.9)), round(reach * np.cos(n * 0.7))) for n in range(count)]


def test_how_far_the_eyes_have_moved() -> None:
    places = shaken(30, 4)
    path = walked(places)
    for start, to in ((0, 29), (17, 5), (8, 8)):
        np.testing.assert_allclose(path.moved(start, to), np.subtract(places[to], places[start]), atol=0.5)


def test_a_long_path_keeps_its_end() -> None:
    places = shaken(80, 3)
    path = walked(places)
    np.testing.assert_allclose(path.moved(30, 79), np.subtract(places[79], places[30]), atol=0.7)


def test_a_hand_shakes_and_a_head_moves_on() -> None:
    assert walked(shaken(51, 2)).shaken(SIDE)
    assert not walked([(n // 2, -n // 3) for n in range(51)]).shaken(SIDE)
    assert not walked(shaken(8, 4)).shaken(SIDE), "too short to tell"


@pytest.mark.parametrize("face", [None, (160.0, 120.0, 8.0), (700.0, 120.0, SIDE)])
def test_what_cannot_be_compared_has_not_moved(face: tuple[float, float, float] | None) -> None:
    path = Path(51)
    for x, y in shaken(20, 4):
        path.add(drawn(x, y), face)
    assert path.moved(0, 19) == (0, 0)


def test_a_cut_is_no_movement() -> None:
    rng = np.random.default_rng(0)
    path = Path(51)
    for _ in range(3):
        path.add(rng.integers(0, 255, (240, 320), np.uint8), (160, 120, SIDE))
    assert path.moved(0, 2) == (0, 0)


def test_a_face_is_where_it_was_found_when_nothing_shakes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [face(140 + n // 3, 120, 90, opened=(n % 5) / 4)[..., 0] for n in range(60)]
    found = [where for _, where in follow(shown)]
    monkeypatch.setattr(Path, "shaken", lambda self, side: False)
    assert found == [where for _, where in follow(shown)]
