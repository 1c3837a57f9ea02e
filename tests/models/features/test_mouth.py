"""The lips are found wherever the face is, and what was not found is said."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.features import face as faces
from models.features.face import EVERY, RARELY, REACH, Face, FaceFinder, FaceTracker, follow
from models.features.mouth import Mouth, MouthFeatures
from models.media import MediaError, MediaLimits
from tests.models.features.faces import face, textured
from tests.models.media.make import clip, numbered
from tests.support import noticed

FRAMES = 12


def mouth(video: bytes, **settings: Any) -> Mouth:
    (found,) = MouthFeatures(**settings).decode("video", {"video": [video]}, MediaLimits(), 1)
    return found


def still(x: float, y: float, size: float, **size_of_frame: int) -> bytes:
    return clip([face(x, y, size, **size_of_frame)] * FRAMES, rate=25)


def opening(lips: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The centre, row and column, of what is darker than skin in the middle of each crop."""
    rows, columns = np.mgrid[: lips.shape[1], : lips.shape[2]]
    near = (abs(rows - 24) < 13) & (abs(columns - 32) < 20)
    dark = np.where(near, np.clip(140 - lips.astype(float), 0, None), 0)
    total = dark.sum((1, 2))
    return np.stack([(dark * rows).sum((1, 2)) / total, (dark * columns).sum((1, 2)) / total], 1)


def alike(some: NDArray[np.uint8], others: NDArray[np.uint8]) -> float:
    """Correlation: scaled frames may be stretched from a file's range of 16..235 to 0..255."""
    return float(np.corrcoef(some.ravel(), others.ravel())[0, 1])


@pytest.mark.parametrize(("x", "y", "size"), [(160, 120, 90), (80, 90, 60), (225, 130, 130)])
def test_the_mouth_is_in_the_middle_wherever_the_face_is_and_whatever_its_size(x: int, y: int, size: int) -> None:
    found = mouth(still(x, y, size))
    assert found.lips.shape == (FRAMES, 48, 64)
    assert found.seen == 1
    np.testing.assert_allclose(opening(found.lips), np.tile([24, 32], (FRAMES, 1)), atol=5)


def test_a_phones_turned_and_large_video_gives_the_same_lips() -> None:
    upright = mouth(still(160, 120, 90)).lips
    sideways = clip([np.rot90(face(160, 120, 90)).copy()] * FRAMES, rate=25, turned={"degrees": -90})
    assert alike(mouth(sideways).lips, upright) > 0.98
    large = mouth(clip([face(640, 480, 360, height=960, width=1280)] * FRAMES, rate=25))
    assert alike(large.lips, upright) > 0.98


def test_lips_that_move_are_seen_to_move() -> None:
    openings = [0.0, 0.0, 0.5, 1.0, 1.0, 0.5] * 4
    lips = mouth(clip([face(160, 120, 90, opened=each) for each in openings], rate=25)).lips
    darkness = 255 - lips[:, 18:32, 26:38].mean((1, 2))
    assert np.corrcoef(darkness, openings)[0, 1] > 0.95


def test_lips_stay_in_the_middle_when_the_camera_shakes() -> None:
    upright = textured(face(160, 120, 90))
    shaken = [np.roll(upright, (round(4 * np.cos(n * 0.7)), round(4 * np.sin(n * 0.9))), (0, 1)) for n in range(75)]
    found = opening(mouth(clip(shaken, rate=25)).lips)
    assert found.std(0).max() < 1
    np.testing.assert_allclose(found.mean(0), [24, 32], atol=5)


def test_frames_come_at_a_steady_rate_whatever_the_videos() -> None:
    slow = mouth(clip([face(160, 120, 90)] * 10, rate=10)).lips
    fast = mouth(clip([face(160, 120, 90)] * 50, rate=50)).lips
    assert len(slow) == len(fast) == 25


def test_a_clip_without_a_face_is_flat_and_says_so() -> None:
    found = mouth(clip([numbered(number) for number in range(FRAMES)], rate=25))
    assert (found.lips == 128).all()
    assert noticed(MouthFeatures(), [found]) == ["no_face"]


@pytest.mark.parametrize("light", [0.25, 0.12])
def test_a_face_is_found_in_the_dark_where_it_is_in_the_light(light: float) -> None:
    lit = [face(160, 120, 90, opened=number / FRAMES) for number in range(FRAMES)]
    dark = mouth(clip([(frame * light).astype(np.uint8) for frame in lit], rate=25))
    assert dark.seen == 1
    assert alike(dark.lips, mouth(clip(lit, rate=25)).lips) > 0.97


def test_the_noise_of_a_dark_room_is_no_face() -> None:
    rng = np.random.default_rng(0)
    found = mouth(clip([rng.integers(0, 6, (240, 320, 3), np.uint8) for _ in range(FRAMES)], rate=25))
    assert noticed(MouthFeatures(), [found]) == ["no_face"]


def test_a_face_that_goes_away_leaves_grey_frames_behind() -> None:
    nobody = np.full((240, 320, 3), 90, np.uint8)
    found = mouth(clip([face(160, 120, 90)] * 6 + [nobody] * 64, rate=25))
    flat = (found.lips == 128).all((1, 2))
    assert not flat[: REACH + 1].any()
    assert flat[6 + REACH :].all()
    assert noticed(MouthFeatures(), [found]) == ["face_lost"]


def test_a_long_video_is_cut_and_says_so() -> None:
    video = clip([face(160, 120, 90, opened=number / 25) for number in range(25)], rate=25)
    found = mouth(video, max_seconds=0.4)
    assert len(found.lips) == 10
    assert noticed(MouthFeatures(), [found]) == ["truncated"]
    assert noticed(MouthFeatures(), [mouth(video, max_seconds=1)]) == []


def test_what_is_no_video_is_refused() -> None:
    with pytest.raises(MediaError):
        mouth(b"not a video")
    assert MouthFeatures().decode("video", {}, MediaLimits(), 1) == []


def frames(count: int) -> Iterator[NDArray[np.uint8]]:
    for number in range(count):
        yield np.full((1, 1), number, np.uint8)


def test_one_false_find_moves_nothing_and_small_errors_average_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)

    def find(self: FaceFinder, frame: NDArray[np.uint8], last: Face | None = None) -> Face:
        if int(frame[0, 0]) == 6 * EVERY:
            return Face(250, 10, 40)
        return Face(*(np.array([100, 80, 60]) + rng.normal(0, 2, 3)).tolist())

    monkeypatch.setattr(faces.FaceFinder, "find", find)
    found = np.array([where for _, where in follow(frames(75))])
    assert abs(found - [100, 80, 60]).max() < 2.5
    assert abs(np.diff(found, axis=0)).max() < 1


def test_frames_pass_by_in_order_and_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces.FaceFinder, "find", lambda self, frame, last=None: None)
    taken = 0

    def counted() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for frame in frames(100):
            taken += 1
            yield frame

    for number, (frame, where) in enumerate(follow(counted())):
        assert int(frame[0, 0]) == number
        assert where is None
        assert taken <= number + REACH + RARELY + 1
    assert taken == 100


def test_where_there_is_no_face_for_long_few_frames_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def find(self: FaceFinder, frame: NDArray[np.uint8], last: Face | None = None) -> None:
        searched.append(int(frame[0, 0]))

    monkeypatch.setattr(faces.FaceFinder, "find", find)
    shown: Any = [np.full((1, 1), number, np.int64) for number in range(1500)]
    assert len(list(follow(shown))) == 1500
    assert len(searched) < 80
    assert max(np.diff(searched)) == RARELY
    searched.clear()
    live = FaceTracker(0)
    assert all(len(live.add(frame)) == 1 for frame in shown)
    assert len(searched) == 1500 // EVERY, "one that cannot wait looks whenever it is time to"


@pytest.mark.parametrize("ahead", [0, REACH])
@pytest.mark.parametrize("comes", [0, 3, 60, 128, 333, 341, 494])
@pytest.mark.parametrize("stays", [RARELY, 90])
def test_a_face_that_comes_late_is_followed_as_by_one_who_looked_all_the_time(
    ahead: int, comes: int, stays: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(self: FaceFinder, frame: NDArray[np.int64], last: Face | None = None) -> Face | None:
        at = int(frame[0, 0])
        # Where it is believed to be depends on where it was.
        return Face(100 + at % 7, 80, 60 if last is None else (59 + last.side) / 2) if 0 <= at - comes < stays else None

    monkeypatch.setattr(faces.FaceFinder, "find", find)
    shown: Any = [np.full((1, 1), number, np.int64) for number in range(500)]
    watchful = FaceTracker(ahead)
    expected = [told for frame in shown for told in watchful.add(frame)] + watchful.rest()
    told = list(follow(shown, ahead))
    assert [int(frame[0, 0]) for frame, _ in told] == list(range(500))
    assert [where for _, where in told] == [where for _, where in expected]
    assert any(where is not None for _, where in told)


def test_looking_back_only_no_frame_waits_and_a_stream_can_be_carried_on() -> None:
    shown = [face(100 + 2 * number, 80, 70)[..., 0] for number in range(40)]
    whole = list(follow(shown, ahead=0))
    first, second = FaceTracker(0), FaceTracker(0)
    streamed = [settled for frame in shown[:23] for settled in first.add(frame)]
    second.restore(first.state())
    streamed += [settled for frame in shown[23:] for settled in second.add(frame)]
    assert [where for _, where in streamed] == [where for _, where in whole]
    assert whole[30][1] is not None


def test_a_state_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not the state"):
        FaceTracker(0).restore([3.0, 1.0])
    with pytest.raises(ValueError, match="not the state"):
        FaceTracker().restore(FaceTracker(0).state())


def test_the_beginning_of_a_causal_clip_does_not_depend_on_what_follows() -> None:
    shown = [face(120 + number, 100, 80, opened=(number % 4) / 4) for number in range(60)]
    whole, beginning = (mouth(clip(part, rate=25), causal=True).lips for part in (shown, shown[:30]))
    # The encoder of the clip sees other frames, so pixels differ by a little.
    assert abs(whole[:30].astype(int) - beginning.astype(int)).mean() < 3
