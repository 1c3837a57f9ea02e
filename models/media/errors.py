"""What can be wrong with a medium. Nothing here knows how a caller reports it."""

from collections.abc import Iterator
from contextlib import contextmanager


class MediaError(ValueError):
    """A medium that cannot be used, with what is wrong and what to do about it.

    ``modality`` is image, text, audio or video; ``detail`` says in one sentence what is wrong, ``remedy`` what to send
    instead, and ``limit`` names the bound that was crossed ("64000000 pixels") where one was.
    """

    def __init__(self, modality: str, detail: str, remedy: str, limit: str | None = None) -> None:
        super().__init__(modality, detail, remedy, limit)
        self.modality = modality
        self.detail = detail
        self.remedy = remedy
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.detail} {self.remedy}"


class UndecodableMedia(MediaError):
    """The right kind of medium, but broken: truncated, corrupt, without a frame, or not made of numbers."""


class UnsupportedMedia(MediaError):
    """Recognized as something that is not read as this modality, or not recognized at all."""


class MediaTooLarge(MediaError):
    """More bytes than the limit."""


class MediaOutOfBounds(MediaError):
    """Too many pixels, seconds, frames or characters, or nothing where something is needed."""


@contextmanager
def shielded(modality: str, name: str) -> Iterator[None]:
    """Turns whatever a decoder raises on the medium called ``name`` into `UndecodableMedia`, its cause attached."""
    try:
        yield
    except MediaError:
        raise
    # On damaged bytes the codecs raise nearly everything there is (OSError, SyntaxError, struct.error, KeyError,
    # MemoryError ...) and the set changes with each of their releases, so no list of types would hold.
    except Exception as error:
        raise UndecodableMedia(
            modality,
            f"The {modality} was recognized as {name}, but its content is truncated or corrupt.",
            "Check that the file opens elsewhere, and send all of it.",
        ) from error
