"""Pictures of a speaker to the lips, at a steady rate, while they come."""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from models.features.face import FaceTracker
from models.features.mouth import DRAWN, FLAT_GREY, MouthFeatures
from models.state import State
from models.streaming.errors import BadChunk, BadStart
from models.streaming.pictures import Pictures, check_time, decoded

_LONGEST_GAP = 10.0
"""Seconds between two pictures: more is no stream."""

Lips = NDArray[np.uint8]


class LipsFront:
    """Lips uint8 [R, n, H, W], one a tick, as they are: the network looks back at earlier ones by itself."""

    frames = 1
    block = 1

    def __init__(self, features: MouthFeatures) -> None:
        self.features = features

    @property
    def tick(self) -> float:
        """Seconds of a frame."""
        return 1 / self.features.fps

    def empty(self) -> Lips:
        """No frame."""
        return np.zeros((0, self.features.height, self.features.width), np.uint8)

    def blank(self, ticks: int) -> Lips:
        """What stands for the lips of a session that sends no picture."""
        return np.full((ticks, self.features.height, self.features.width), FLAT_GREY, np.uint8)

    def reader(self, encoding: Any, modality: str) -> "LipsReader":
        """What makes lips of chunks that come so.

        Raises:
            BadStart: it is no encoding of pictures.
        """
        try:
            Pictures.model_validate(encoding)
        except ValidationError as error:
            raise BadStart.of(error, modality, 'Send {"encoding": "jpeg" or "webp"}.') from error
        return LipsReader(self.features)

    def initial_state(self, rows: int) -> State:  # noqa: ARG002 - each frame is by itself here
        """Nothing."""
        return {}

    def step(self, lips: Tensor, state: State) -> tuple[Tensor, State]:
        """Whole ticks."""
        return lips, state

    def finish(self, lips: Tensor, state: State) -> Tensor:  # noqa: ARG002
        """There is no part of a frame."""
        return lips[:, :1]


class LipsReader:
    """One session's pictures to lips at the features' rate: the last one is repeated until the next is due."""

    offload = True

    def __init__(self, features: MouthFeatures) -> None:
        self.features = features
        self._follower = FaceTracker(0)
        self._lips = LipsFront(features).blank(1)
        self._given = 0

    def read(self, chunk: bytes, time: float) -> tuple[Lips, str | None]:
        """The frames up to the picture's ``time``, in seconds since the session began.

        Raises:
            BadChunk: the time is not one since the session began, or is far from the last one.
        """
        due = self._due(time)
        picture, warning = decoded(chunk, DRAWN)
        if due <= 0:
            return self._lips[:0], warning
        frames = [self._lips] * (due - 1)
        if picture is not None:
            grey = cv2.cvtColor(_scaled(picture), cv2.COLOR_RGB2GRAY)
            ((frame, face),) = self._follower.add(np.asarray(grey, np.uint8))
            self._lips = self.features.lips(frame, face)[None]
        frames.append(self._lips)
        self._given += due
        return np.concatenate(frames), warning

    def finish(self, *, last: bool) -> Lips:  # noqa: ARG002
        """Nothing is held back."""
        return self._lips[:0]

    def save(self) -> State:
        return {
            "follower": torch.tensor(self._follower.state(), dtype=torch.float64),
            "lips": torch.from_numpy(self._lips.copy()),
            "given": torch.tensor(self._given),
        }

    def load(self, state: State) -> None:
        self._follower.restore(state["follower"].tolist())
        self._lips, self._given = state["lips"].numpy(), int(state["given"])

    def close(self) -> None:
        """There is nothing to close."""

    def _due(self, time: float) -> int:
        check_time(time)
        due = round(time * self.features.fps) + 1 - self._given
        if due > _LONGEST_GAP * self.features.fps:
            raise BadChunk(f"a picture {due / self.features.fps:.0f} seconds after the last one")
        return due


def _scaled(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = DRAWN / min(picture.shape[:2])
    if scale >= 1:
        return picture
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
