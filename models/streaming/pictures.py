"""Pictures with times, as a camera gives them: JPEG or WebP, one a chunk."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.media.errors import MediaError
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.media.room import PixelRoom
from models.streaming.errors import BadChunk

_LIMITS = MediaLimits(image_bytes=2**24, image_pixels=4096 * 2304)
"""A frame of a camera is no larger."""

_ROOM = PixelRoom(2 * _LIMITS.image_pixels)
"""What all streams' pictures may have together. Behind the photos in files they would come too late."""

_LATEST = 1e9
"""Seconds, thirty years: no session lasts as long, and any number of frames a second of it is a number."""


class Pictures(BaseModel):
    """One whole picture a chunk, with its time in the chunk's header."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoding: Literal["jpeg", "webp"]


def check_time(seconds: float) -> None:
    """Let the time in a chunk's header pass.

    Raises:
        BadChunk: it is not a time since the session began.
    """
    if not 0 <= seconds <= _LATEST:
        raise BadChunk(f"a picture at {seconds} seconds")


def decoded(chunk: bytes, target: int) -> tuple[NDArray[np.uint8] | None, str | None]:
    """RGB [H, W, 3] whose shorter side is at least ``target`` where it was; None, and why, if it cannot be read.

    A camera's line may lose a picture; the next is there in a moment.
    """
    try:
        return decode_image(chunk, _LIMITS, target=target, room=_ROOM), None
    except MediaError as error:
        return None, f"a picture is passed over: {error.detail}"
