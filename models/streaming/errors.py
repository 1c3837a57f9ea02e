"""What can be wrong with a stream. Nothing here knows how a client is told."""


class BadStart(ValueError):
    """A session that cannot be started so; ``field`` says what of it is wrong."""

    def __init__(self, detail: str, remedy: str, field: str) -> None:
        super().__init__(detail)
        self.remedy, self.field = remedy, field


class BadChunk(ValueError):
    """A chunk that is not what its encoding says; the message says why."""


class BadState(ValueError):
    """A state that is refused; the message says why."""


class Busy(Exception):
    """No more sessions of this kind at the moment."""


class CannotStream(ValueError):
    """The checkpoint needs the whole input; the message says why."""
