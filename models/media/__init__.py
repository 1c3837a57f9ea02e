"""Uploaded bytes to arrays: recognized by content, bounded before they are decoded, refused with a reason."""

from models.media.audio import Audio, decode_audio, video_audio
from models.media.errors import MediaError, MediaOutOfBounds, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from models.media.image import decode_image
from models.media.limits import MediaLimits
from models.media.sniff import Format, sniff
from models.media.text import decode_text
from models.media.video import Video, decode_video

__all__ = [
    "Audio",
    "Format",
    "MediaError",
    "MediaLimits",
    "MediaOutOfBounds",
    "MediaTooLarge",
    "UndecodableMedia",
    "UnsupportedMedia",
    "Video",
    "decode_audio",
    "decode_image",
    "decode_text",
    "decode_video",
    "sniff",
    "video_audio",
]
