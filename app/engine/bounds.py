"""What one streaming session may take up."""

from dataclasses import dataclass

DRAIN_SECONDS = 5.0
"""For the sessions of a server that stops: longest until each has its state and is over."""
_HELD_BYTES = 2**20
"""16 s of sound at 16 kHz, or seven pictures: a modality may be late by as long as two pictures may be apart."""


@dataclass(frozen=True, slots=True)
class SessionBounds:
    """What one session may take up."""

    chunk_bytes: int
    """Of one chunk, its header not counted."""
    window_bytes: int
    """Of the chunks that wait for their turn."""
    events: int
    """That wait for the client, or that it did not confirm."""
    idle_seconds: float
    """Without a message, without a connection, or without taking its events."""
    total_seconds: float
    """From the start."""

    @property
    def held_bytes(self) -> int:
        """Of the chunks that wait, decoded: a byte of a container, or of a late picture, can stand for a megabyte."""
        return max(_HELD_BYTES, self.window_bytes)
