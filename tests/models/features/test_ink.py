"""A sign found on its ground: wherever it is, however large, and in whatever light."""

import io
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.features import InkFeatures
from models.features.image import squared
from models.media import MediaLimits
from tests.support import noticed

SIZE = 28


def sign(side: int) -> NDArray[np.float32]:
    """A seven with thick strokes, 1 on 0, in a box of 5 : 7."""
    height, width = side, round(side * 5 / 7)
    thick = max(1, round(side / 7))
    drawn = np.zeros((height, width), np.uint8)
    cv2.line(drawn, (thick // 2, thick // 2), (width - 1 - thick // 2, thick // 2), 255, thick)
    cv2.line(drawn, (width - 1 - thick // 2, thick // 2), (thick // 2 + thick, height - 1 - thick // 2), 255, thick)
    return np.asarray(drawn / 255, np.float32)


def page(side: int, top: int, left: int, *, ink: float = -140, paper: float = 210) -> NDArray[np.float32]:
    """A sign ``side`` pixels high on a page of 240 x 320."""
    grey = np.full((240, 320), paper, np.float32)
    drawn = sign(side)
    grey[top : top + drawn.shape[0], left : left + drawn.shape[1]] += ink * drawn
    return grey


def rgb(grey: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, 2)


def read(grey: NDArray[Any]) -> torch.Tensor:
    """Light ink on black, in 0 to 1 [28, 28]."""
    features = InkFeatures(size=SIZE)
    found = features.extract([features.find(rgb(grey))])
    assert found.shape == (1, 3, SIZE, SIZE)
    assert found.dtype == torch.uint8
    assert torch.equal(found[0, 0], found[0, 2])
    return found[0, 0].float() / 255


def alike(first: torch.Tensor, second: torch.Tensor) -> float:
    """The correlation of two pictures."""
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


WANTED = read(page(150, 40, 100))


def test_the_sign_is_scaled_into_the_box_with_its_mass_in_the_middle() -> None:
    rows, columns = np.flatnonzero(WANTED.amax(1) > 0.5), np.flatnonzero(WANTED.amax(0) > 0.5)
    assert rows[-1] - rows[0] + 1 == pytest.approx(20, abs=1)
    assert columns[-1] - columns[0] + 1 == pytest.approx(20 * 5 / 7, abs=1.5)
    steps = torch.arange(SIZE) + 0.5
    assert float((WANTED.sum(1) @ steps) / WANTED.sum()) == pytest.approx(SIZE / 2, abs=0.2)
    assert float((WANTED.sum(0) @ steps) / WANTED.sum()) == pytest.approx(SIZE / 2, abs=0.2)
    assert WANTED.max() == 1


@pytest.mark.parametrize(("side", "top", "left"), [(40, 5, 5), (40, 190, 280), (90, 100, 30), (220, 10, 80)])
def test_place_and_size_do_not_matter(side: int, top: int, left: int) -> None:
    assert alike(WANTED, read(page(side, top, left))) > 0.95


def test_a_sign_that_fills_the_picture_is_found_whole() -> None:
    drawn = sign(200)
    across, down = np.flatnonzero(drawn.any(0)), np.flatnonzero(drawn.any(1))
    close = drawn[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    assert alike(WANTED, read(200 * close)) > 0.95
    assert alike(WANTED, read(230 - 200 * close)) > 0.95


def test_light_ink_on_dark_and_faint_ink_are_found() -> None:
    assert alike(WANTED, read(page(90, 60, 60, ink=170, paper=40))) > 0.95
    assert alike(WANTED, read(page(90, 60, 60, ink=-30))) > 0.95


def test_uneven_light_shadows_lines_and_noise_do_not_matter() -> None:
    lit = page(90, 60, 60) + np.linspace(-60, 40, 320, dtype=np.float32)
    shadow = page(90, 60, 60)
    shadow[:, 100:] -= 50
    ruled = page(90, 60, 60)
    ruled[20::40] -= 30
    noisy = page(90, 60, 60) + np.random.default_rng(0).normal(0, 15, (240, 320))
    for grey in (lit, shadow, ruled, noisy):
        assert alike(WANTED, read(grey)) > 0.93


def test_specks_and_what_the_border_cuts_are_not_the_sign() -> None:
    other = page(90, 60, 60)
    other[200:212, 250:262] -= 140
    other[:, 300:] -= 150
    assert alike(WANTED, read(other)) > 0.95


def test_parts_that_lie_close_together_are_one_sign() -> None:
    apart = page(90, 60, 60)
    apart[100:104, 55:130] = 210
    assert alike(WANTED, read(apart)) > 0.85


def test_a_blot_is_ink_in_its_middle_too() -> None:
    blot = np.full((240, 240), 0, np.float32)
    cv2.circle(blot, (120, 120), 95, 255, -1)
    assert read(blot)[SIZE // 2, SIZE // 2] > 0.9


def test_thin_strokes_survive() -> None:
    thin = np.full((300, 300), 230, np.float32)
    cv2.line(thin, (60, 50), (240, 50), 60, 2)
    cv2.line(thin, (240, 50), (120, 250), 60, 2)
    assert alike(WANTED, read(thin)) > 0.6
    assert read(thin).sum() > 0.5 * WANTED.sum()


def test_small_pictures_and_pictures_of_one_colour_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (SIZE, 2 * SIZE, 3), np.uint8)
    flat = np.full((200, 300, 3), 200, np.uint8)
    for picture, notice in ((small, None), (flat, "blank")):
        found = InkFeatures(size=SIZE).find(picture)
        assert torch.equal(found.pixels, squared(picture, SIZE))
        assert found.notice == notice
    noise = rng.normal(128, 20, (200, 200, 3)).clip(0, 255).astype(np.uint8)
    assert InkFeatures(size=SIZE).find(noise).notice == "no_sign"


def test_a_small_picture_is_searched_unless_it_is_no_larger_than_what_is_made_of_it() -> None:
    small = np.zeros((2 * SIZE, 2 * SIZE), np.float32)
    drawn = sign(20)
    small[2 : 2 + drawn.shape[0], 38 : 38 + drawn.shape[1]] = 230 * drawn
    assert alike(WANTED, read(small)) > 0.9
    assert torch.equal(InkFeatures(size=2 * SIZE).find(rgb(small)).pixels, squared(rgb(small), 2 * SIZE))


def turned(grey: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """A page on a dark, grainy desk, and turned a little."""
    desk = np.random.default_rng(0).normal(80, 8, (400, 500)).astype(np.float32)
    matrix = cv2.getRotationMatrix2D((160, 120), degrees, 1)
    matrix[:, 2] += (90, 80)
    laid = cv2.warpAffine(grey, matrix, (500, 400), dst=desk.copy(), borderMode=cv2.BORDER_TRANSPARENT)
    return np.asarray(laid, np.float32)


def test_a_page_on_a_desk_and_one_in_a_dark_frame_are_cut_out() -> None:
    for degrees in (0, 7):
        assert alike(WANTED, read(turned(page(90, 60, 60), degrees))) > 0.85
    framed = page(90, 60, 60)
    for edge in (framed[:20], framed[-20:], framed[:, :20], framed[:, -20:]):
        edge[:] = 0
    assert alike(WANTED, read(framed)) > 0.95


def test_a_light_shape_that_is_no_sheet_is_the_sign_itself() -> None:
    zero, bar, box = (np.full((240, 240), 20, np.float32) for _ in range(3))
    cv2.ellipse(zero, (120, 120), (65, 95), 0, 0, 360, 235, 34)
    cv2.line(bar, (120, 30), (120, 210), 235, 34)
    cv2.rectangle(box, (60, 40), (180, 200), 235, 30)
    ring = read(zero)
    assert ring[SIZE // 2, SIZE // 2] < 0.1 < 0.9 < ring.max()
    assert read(bar).sum() < 120
    assert read(box)[SIZE // 2, SIZE // 2] < 0.1 < 0.9 < read(box)[SIZE // 2].max()


def test_a_picture_cropped_to_its_sign_is_read_with_a_margin_and_noticed() -> None:
    soft = cv2.GaussianBlur(np.pad(sign(200), 40), (0, 0), 14)
    across, down = np.flatnonzero((soft > 0.3).any(0)), np.flatnonzero((soft > 0.3).any(1))
    cropped = 230 - 200 * soft[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    found = InkFeatures(size=SIZE).find(rgb(cropped))
    assert found.notice == "no_sign"
    assert alike(WANTED, found.pixels[0].float()) > 0.85


@pytest.mark.parametrize(
    ("shape", "notice"), [((1, 400), None), ((400, 1), None), ((57, 3), None), ((2000, 90), "no_sign")]
)
def test_a_strip_is_taken_as_it_is_and_noticed_where_it_could_hold_a_sign(
    shape: tuple[int, int], notice: str | None
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, shape)
    found = InkFeatures(size=SIZE).find(rgb(noise))
    assert found.notice == notice
    assert found.pixels.shape == (3, SIZE, SIZE)
    assert found.pixels.float().mean() == pytest.approx(noise.mean(), abs=6)


def test_a_margin_around_a_strip_takes_little_memory() -> None:
    strip = rgb(np.random.default_rng(0).normal(128, 20, (60, 6000)))
    tracemalloc.start()
    found = InkFeatures(size=SIZE).find(strip)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.notice == "no_sign"
    assert peak < 10 * strip.nbytes  # with a margin of a quarter of its length it would be 76 times as large


def test_a_sign_on_a_strip_is_found() -> None:
    strip = np.full((170, 6000), 230, np.float32)
    strip[10:160, 100 : 100 + sign(150).shape[1]] -= 200 * sign(150)
    found = InkFeatures(size=SIZE).find(rgb(strip))
    assert found.notice == "no_sign"
    assert found.pixels.max() == 255


def test_more_than_one_sign_is_noticed() -> None:
    two = page(90, 60, 60)
    two[60:150, 200:264] -= 140 * sign(90)
    features = InkFeatures(size=SIZE)
    assert noticed(features, [features.find(rgb(two))]) == ["several_signs"]
    speck = page(90, 60, 60)
    speck[200:204, 250:254] -= 140
    assert noticed(features, [features.find(rgb(speck))]) == []


def test_white_ink_on_nothing_is_read() -> None:
    pixels = np.full((240, 320, 4), 255, np.uint8)
    pixels[..., 3] = page(90, 60, 60, ink=255, paper=0)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    features = InkFeatures(size=SIZE)
    assert (
        alike(
            WANTED,
            features.extract(features.decode("image", {"image": [file.getvalue()]}, MediaLimits(), 1))[0, 0].float(),
        )
        > 0.95
    )


def test_a_photo_posted_as_jpeg_is_read_like_its_pixels() -> None:
    file = io.BytesIO()
    Image.fromarray(page(90, 60, 60).astype(np.uint8)).save(file, "JPEG")
    features = InkFeatures(size=SIZE)
    photos = features.decode("image", {"image": [file.getvalue()]}, MediaLimits(), 1)
    assert noticed(features, photos) == []
    assert alike(WANTED, features.extract(photos)[0, 0].float()) > 0.95
