"""Videos to frames of one size."""

from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from models.features.features import FEATURES, Features, Modality, Sources, as_bytes
from models.features.image import squared
from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.media.video import decode_video

_LUMA = torch.tensor([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


_MOST_PIXELS = 2**28
"""Of all frames together, each of which takes three bytes, and more on its way."""


class VideoFeatures(Features):
    """Square frames at even distances in time, stretched as pictures are: at most ``max_frames`` of a video.

    With ``fps`` there are as many as that rate gives, so that a step means the same time in every video, until a video
    is so long that ``max_frames`` have to be spread over it.
    """

    type: Literal["frames"] = "frames"
    size: int = Field(112, ge=8, le=1024, description="Side of the square, pixels")
    max_frames: int = Field(16, ge=1, le=4096)
    fps: float | None = Field(None, gt=0, le=120, description="Frames a second; all that max_frames allows if missing")
    colours: Literal["rgb", "grey"] = "rgb"

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.max_frames * self.size**2 > _MOST_PIXELS:
            raise ValueError(
                f"{self.max_frames} frames of {self.size} x {self.size} are more than {_MOST_PIXELS} pixels: "
                "choose fewer or smaller ones"
            )
        return self

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=16, max_frames=3)

    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[NDArray[np.uint8]]:
        """The frames of each video, RGB [T, H, W, 3]."""
        videos = sources.get(modality, [])[:room]
        return [
            decode_video(as_bytes(data), limits, count=self.max_frames, target=self.size, fps=self.fps).frames
            for data in videos
        ]

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:  # noqa: ARG002
        """Frames of one or more videos -> uint8 [T, C, size, size], C being 3, or 1 if grey, one after the other."""
        frames = torch.stack([squared(frame, self.size) for video in media for frame in video])
        if self.colours == "rgb":
            return frames
        return torch.einsum("tchw,c->thw", frames.float(), _LUMA).round().clamp(0, 255).byte().unsqueeze(1)

    def blank(self) -> list[NDArray[np.uint8]]:
        """One grey video of as many frames as may come."""
        return [np.full((self.max_frames, self.size, self.size, 3), 127, np.uint8)]


FEATURES.register("frames", VideoFeatures)(VideoFeatures)
