"""Videos of a speaker to the region of the lips, cut out of each frame."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from models.features.face import REACH, Face, Grey, follow
from models.features.features import FEATURES, Features, Modality, Sources, as_bytes
from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.media.video import luma_frames

DRAWN = 480
"""Shorter side, in pixels, to which larger videos are scaled: the lips of a face that fills half of it have 64."""

_LOWER = 0.31
"""How far the mouth lies below the centre of a face, in sides of its square."""

FLAT_GREY = 128
"""Every pixel of a frame without a face."""


@dataclass(frozen=True, slots=True)
class Mouth:
    """Lips, uint8 [T, H, W], of a whole video; ``seen`` is the share of frames in which there was a face.

    ``cut``: the video goes on after them.
    """

    lips: Grey
    seen: float
    cut: bool = False


class MouthFeatures(Features):
    """The lips in grey at a steady rate, found in each clip: wherever the face is, and whatever its size.

    Faces are searched in every fifth frame, more seldom where there has been none for long, and where they were found
    is averaged over time. A camera that shakes is followed, unless ``causal``. A frame without a face nearby is flat
    grey: nothing is guessed. So a clip without any face is a clip without anything to see, and is noticed as
    ``no_face``.
    """

    type: Literal["mouth"] = "mouth"
    height: int = Field(48, ge=8, le=256, description="Pixels")
    width: int = Field(64, ge=8, le=256, description="Pixels")
    fps: float = Field(25, gt=0, le=120, description="Frames a second; a slower video repeats some")
    scale: float = Field(0.5, gt=0, le=2, description="Width of the region, in sides of the face's square")
    causal: bool = Field(False, description="Where the face is depends on earlier frames only, as in a stream")
    max_seconds: float | None = Field(None, gt=0, le=3600, description="Where a longer video is cut off")

    @property
    def pace(self) -> float:
        """Of frames at a steady rate."""
        return 1 / self.fps

    @classmethod
    def tiny(cls) -> Self:
        return cls(height=12, width=16)

    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[Mouth]:
        """The lips of each video."""
        return [self._read(as_bytes(data), limits) for data in sources.get(modality, [])[:room]]

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:  # noqa: ARG002
        """Lips of one or more videos -> uint8 [T, height, width], one video after the other."""
        return torch.cat([torch.from_numpy(mouth.lips) for mouth in media])

    def blank(self) -> list[Mouth]:
        """Three seconds of flat grey."""
        frames = max(1, round(3 * self.fps))
        return [Mouth(np.full((frames, self.height, self.width), FLAT_GREY, np.uint8), 0.0)]

    def notices(self, media: list[Any], read: Tensor, tokenizer: TextTokenizer | None = None) -> list[str]:  # noqa: ARG002
        """``no_face``: none was found; ``face_lost``: none in over half of the frames; ``truncated``."""
        seen = max(mouth.seen for mouth in media)
        lost = ["no_face"] if seen == 0 else ["face_lost"] if seen < 0.5 else []
        return lost + ["truncated"] * any(mouth.cut for mouth in media)

    def _read(self, data: bytes, limits: MediaLimits) -> Mouth:
        most = None if self.max_seconds is None else max(1, round(self.max_seconds * self.fps))
        # One more than wanted tells whether the video goes on.
        seconds = None if most is None else (most + 1) / self.fps
        frames = luma_frames(data, limits, fps=self.fps, target=DRAWN, seconds=seconds)
        lips, seen = [], 0
        for frame, face in follow(frames, 0 if self.causal else REACH):
            lips.append(self.lips(frame, face))
            seen += face is not None
        return Mouth(np.stack(lips[:most]), seen / len(lips), most is not None and len(lips) > most)

    def lips(self, frame: Grey, face: Face | None) -> NDArray[np.uint8]:
        """The region [height, width] around the mouth; beyond the frame's border that is repeated."""
        if face is None:
            return np.full((self.height, self.width), FLAT_GREY, np.uint8)
        width = max(2, round(self.scale * face.side))
        size = width, max(2, round(width * self.height / self.width))
        region = cv2.getRectSubPix(np.ascontiguousarray(frame), size, (face.x - 0.5, face.y - 0.5 + _LOWER * face.side))
        resized = cv2.resize(region, (self.width, self.height), interpolation=cv2.INTER_AREA)
        return np.asarray(resized, np.uint8)


FEATURES.register("mouth", MouthFeatures)(MouthFeatures)
