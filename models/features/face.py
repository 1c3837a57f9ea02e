"""Where the face is in each frame of a video, while the frames pass by."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.features.shake import Path as EyesPath

Grey = NDArray[np.uint8]

EVERY = 5
"""Frames from one search to the next: a head moves little in a fifth of a second."""

REACH = 25
"""Frames on either side whose finds decide where the face is. A single find is off by a hundredth of the face, which
would shake the lips more than speaking moves them."""

RARELY = 25
"""Frames from one search to the next where there has been no face for long: a search of a whole frame takes longest."""

_SMALLEST = 1 / 8
"""Of the frame's shorter side."""

_CONTRAST = 100
"""Grey levels between the darkest and the brightest hundredth of a frame: one that has fewer is stretched."""

_MOST_GAIN = 10
"""A frame that is as good as black stays that: its noise shows no face."""


class Face(NamedTuple):
    """A square from the brows to the chin: its centre and its side, in pixels."""

    x: float
    y: float
    side: float


_own = threading.local()


def _cascade() -> cv2.CascadeClassifier:
    """The calling thread's own: two threads must not share one, and to load it takes a dozen milliseconds."""
    if not hasattr(_own, "cascade"):
        weights = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        _own.cascade = cv2.CascadeClassifier(str(weights))
    cascade: cv2.CascadeClassifier = _own.cascade
    return cascade


class FaceFinder:
    """Frontal, upright faces, by a boosted cascade (Viola and Jones 2001), with the weights that OpenCV brings."""

    def find(self, frame: Grey, last: Face | None = None) -> Face | None:
        """The largest face in ``frame`` [H, W], or the one that ``last`` has become; None if there is none."""
        frame = _stretched(frame)
        if last is not None and (found := self._near(frame, last)) is not None:
            return found
        least = max(24, round(_SMALLEST * min(frame.shape)))
        faces = self._search(frame, least, min(frame.shape))
        return max(faces, key=lambda face: face.side, default=None)

    def _near(self, frame: Grey, last: Face) -> Face | None:
        """The same face a little later: a small part of the frame, and few sizes: a third of the work."""
        left, top = (max(0, round(middle - last.side)) for middle in (last.x, last.y))
        part = frame[top : round(last.y + last.side), left : round(last.x + last.side)]
        faces = self._search(part, round(0.75 * last.side), round(1.33 * last.side))
        moved = [Face(face.x + left, face.y + top, face.side) for face in faces]
        return min(moved, key=lambda face: abs(face.x - last.x) + abs(face.y - last.y), default=None)

    def _search(self, frame: Grey, least: int, most: int) -> list[Face]:
        if min(frame.shape) < least:
            return []
        boxes = _cascade().detectMultiScale(
            np.ascontiguousarray(frame),
            scaleFactor=1.1,
            minNeighbors=5,
            minSize=(least, least),
            maxSize=(most, most),
        )
        return [Face(x + side / 2, y + side / 2, float(side)) for x, y, side, _ in np.asarray(boxes).tolist()]


def _stretched(frame: Grey) -> Grey:
    """A frame [H, W] of little contrast with twice ``_CONTRAST``, others as they are.

    The cascade takes what hardly varies for flat, and so passes over faces that are badly lit.
    """
    low, high = np.percentile(frame[::4, ::4], (1, 99))
    if high - low >= _CONTRAST:
        return frame
    gain = min(2 * _CONTRAST / max(high - low, 1), _MOST_GAIN)
    levels = np.clip((np.arange(256) - low) * gain, 0, 255).astype(np.uint8)
    stretched: Grey = levels[frame]
    return stretched


class FaceTracker:
    """Where the face is in frames [H, W] that come one by one.

    Finds are averaged over ``REACH`` frames before, and ``ahead`` frames after, the one that is asked about; what lies
    apart from their median, a pattern taken for a face, does not count. At most ``ahead`` + 1 frames are held, and
    ``RARELY`` more if it is ``patient``: where there has been no face for a while it looks for one in ever fewer
    frames, and once there is one, in those that it left out. So a face that stays for a second is missed nowhere.

    An average cannot follow a camera that shakes. Where one does, each find is first moved by as much as the eyes have
    moved since; not without looking ahead, as a stream does: its state holds no picture.
    """

    def __init__(self, ahead: int = REACH, *, patient: bool = False) -> None:
        self.ahead = ahead
        self.patient = patient
        self._finder = FaceFinder()
        self._held: deque[Grey] = deque()
        self._due: list[tuple[int, Grey]] = []
        self._finds: deque[tuple[int, Face]] = deque()
        self._last: Face | None = None
        self._missed = 0
        self._came = self._given = 0
        self._path = EyesPath(REACH + ahead + 1) if ahead else None

    def add(self, frame: Grey) -> list[tuple[Grey, Face | None]]:
        """Take the next frame; returns those that are settled by it, with their face if there is one.

        That is one, ``ahead`` frames ago, but for a ``patient`` one, which may tell of many at once.
        """
        if self._came % EVERY == 0:
            self._due.append((self._came, frame))
        self._came += 1
        self._held.append(frame)
        # As many are left out as a fifth of those without a face so far.
        if len(self._due) >= (min(max(1, self._missed // 5), RARELY // EVERY) if self.patient else 1):
            self._look()
        known = self._due[0][0] if self._due else self._came
        return [self._next() for _ in range(known - self.ahead - self._given)]

    def rest(self) -> list[tuple[Grey, Face | None]]:
        """The frames that are left when no other will come."""
        if self._due:
            self._look()
        return [self._next() for _ in range(len(self._held))]

    def state(self) -> list[float]:
        """What an ``ahead`` of 0 remembers between frames: how many came, and each find that may still count."""
        return [float(self._came), *(value for at, face in self._finds for value in (float(at), *face))]

    def restore(self, state: list[float]) -> None:
        """Go on from a ``state``.

        Raises:
            ValueError: it is not what ``state`` returns.
        """
        came, finds = int(state[0]), state[1:]
        if self.ahead or len(finds) % 4 or len(finds) > 4 * (2 * REACH // EVERY + 1):
            raise ValueError("not the state of a follower that looks back only")
        self._came = self._given = came
        self._finds = deque((int(at), Face(*face)) for at, *face in zip(*[iter(finds)] * 4, strict=True))
        latest = (came - 1) // EVERY * EVERY
        self._last = self._finds[-1][1] if self._finds and self._finds[-1][0] == latest else None

    def _look(self) -> None:
        """Search the latest of the frames that are due, and only if there is a face in it, the others as well."""
        *others, (at, frame) = self._due
        found = self._finder.find(frame, self._last)
        if found is None or not others:
            self._note(at, found, len(self._due))
        else:
            for at, frame in self._due:
                self._note(at, self._finder.find(frame, self._last), 1)
        self._due.clear()

    def _note(self, at: int, found: Face | None, searched: int) -> None:
        self._last = found
        self._missed = self._missed + searched if found is None else 0
        if found is not None:
            self._finds.append((at, found))

    def _next(self) -> tuple[Grey, Face | None]:
        if self._path is not None:
            self._walk(self._path)
        face = _settled(self._finds, self._given, self.ahead, self._path)
        self._given += 1
        return self._held.popleft(), face

    def _walk(self, path: EyesPath) -> None:
        """Follow the eyes up to the last frame that counts for the next one to be given."""
        for at in range(path.end, self._given + min(self.ahead + 1, len(self._held))):
            near = (face for found, face in reversed(self._finds) if at - REACH <= found <= at)
            path.add(self._held[at - self._given], next(near, None))


def follow(frames: Iterable[Grey], ahead: int = REACH) -> Iterator[tuple[Grey, Face | None]]:
    """Each frame [H, W] with where its face is, None where none was found around it."""
    follower = FaceTracker(ahead, patient=True)
    for frame in frames:
        yield from follower.add(frame)
    yield from follower.rest()


def _settled(finds: deque[tuple[int, Face]], index: int, ahead: int, path: EyesPath | None = None) -> Face | None:
    """The mean of what was found around frame ``index``, nearer finds counting more; forgets older ones."""
    while finds and finds[0][0] < index - REACH:
        finds.popleft()
    near = [(at, face) for at, face in finds if at <= index + ahead]
    if not near:
        return None
    faces = np.array([face for _, face in near])
    if path is not None and path.shaken(near[-1][1].side):
        faces[:, :2] += [path.moved(at, index) for at, _ in near]
    weights = np.array([1 - abs(at - index) / (REACH + 1) for at, _ in near])
    middle = np.median(faces, axis=0)
    weights *= (np.abs(faces - middle) < 0.25 * middle[2]).all(1)
    if not weights.any():
        return Face(*middle.tolist())
    return Face(*np.average(faces, axis=0, weights=weights).tolist())
