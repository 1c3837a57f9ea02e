"""Pictures to pixels of one size: the same resizing when training and when serving."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class ImageFeatures(BaseModel):
    """Square pictures, stretched rather than cropped: nothing at the border of a photo is lost to the encoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["pixels"] = "pixels"
    size: int = Field(224, ge=32, le=1024, description="Side of the square, pixels")

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> Tensor:
        """RGB pictures [H, W, 3] -> uint8 [T, 3, size, size]."""
        return torch.stack([self._resize(picture) for picture in pictures])

    def _resize(self, picture: NDArray[np.uint8]) -> Tensor:
        if picture.shape[:2] != (self.size, self.size):
            # Pillow's filters widen with the scale, so a large photo is low-passed and not aliased.
            resized = Image.fromarray(picture).resize((self.size, self.size), Image.Resampling.BICUBIC)
            picture = np.asarray(resized)
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
