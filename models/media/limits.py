"""How much of each medium is accepted. Every limit is checked before the work that it bounds."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The most that one medium may hold. A value equal to its limit is accepted."""

    image_bytes: _Count = 32 * 2**20
    """Most bytes of an encoded image."""

    image_pixels: _Count = 64_000_000
    """Most pixels of an image, width times height as its header states them."""

    audio_bytes: _Count = 64 * 2**20
    """Most bytes of an encoded sound."""

    audio_seconds: _Seconds = 600
    """Most seconds of a sound."""

    video_bytes: _Count = 256 * 2**20
    """Most bytes of an encoded video."""

    video_seconds: _Seconds = 600
    """Most seconds of a video, and of its sound track."""

    video_pixels: _Count = 4096 * 2304
    """Most pixels of one frame of a video, width times height."""

    video_frames: _Count = 36_000
    """Most frames in a video, whether or not they are wanted: 600 seconds at 60 frames a second."""

    text_characters: _Count = 20_000
    """Most characters (Unicode code points) of a text, as sent."""

    def bytes_of(self, part: str) -> int:
        """Most bytes of an encoded image, audio or video, or of all the characters in UTF-8 that a text may have."""
        return 4 * self.text_characters if part == "text" else int(getattr(self, f"{part}_bytes"))
