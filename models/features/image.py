"""Pictures to pixels of one size: the same resizing when training and when serving."""

from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from models.features.borders import unbarred
from models.features.features import FEATURES, Features, Modality, Sources, as_bytes
from models.features.text import TextTokenizer
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.media.video import decode_video


class ImageFeatures(Features):
    """Square pictures, stretched rather than cropped: nothing at the border of a photo is lost to the encoder.

    Bars of one colour around a photo, or around a video's frame, are none of it, and are cut off.
    """

    type: Literal["pixels"] = "pixels"
    size: int = Field(224, ge=8, le=1024, description="Side of the square, pixels")

    stand_ins: ClassVar[tuple[Modality, ...]] = ("video",)

    @classmethod
    def tiny(cls) -> Self:
        return cls(size=32)

    def decode(
        self,
        modality: Modality,
        sources: Sources,
        limits: MediaLimits,
        room: int,
    ) -> list[NDArray[np.uint8]]:
        """Photos, then a video's frames at even distances in the room that is left."""
        photos = sources.get(modality, []) if modality != "video" else []
        pictures = [decode_image(as_bytes(data), limits, target=self.size) for data in photos[:room]]
        for data in sources.get("video", []):
            if left := room - len(pictures):
                pictures.extend(decode_video(as_bytes(data), limits, count=left, target=self.size).frames)
        return pictures

    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:  # noqa: ARG002
        """RGB pictures [H, W, 3] -> uint8 [T, 3, size, size]."""
        return torch.stack([squared(unbarred(picture), self.size) for picture in media])

    def blank(self) -> list[NDArray[np.uint8]]:
        """One grey picture."""
        return [np.full((self.size, self.size, 3), 127, np.uint8)]

    def notices(self, media: list[Any], read: Tensor, tokenizer: TextTokenizer | None = None) -> list[str]:  # noqa: ARG002
        """``borders``: bars of one colour were cut off at least one picture."""
        return ["borders"] * any(unbarred(picture).shape != picture.shape for picture in media)


def squared(picture: NDArray[np.uint8], size: int) -> Tensor:
    """An RGB picture [H, W, 3], stretched: uint8 [3, size, size]."""
    if picture.shape[:2] != (size, size):
        # Pillow's filters widen with the scale, so a large photo is low-passed and not aliased.
        resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
        picture = np.asarray(resized)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


FEATURES.register("pixels", ImageFeatures)(ImageFeatures)
