"""What can be wrong with a stream. Nothing here knows how a client is told."""

from typing import Self

from pydantic import ValidationError

from models.refusals import bounds, fault


class BadStart(ValueError):
    """A session that cannot be started so; ``field`` says what of it is wrong, ``limit`` the bound that it crossed."""

    def __init__(self, detail: str, remedy: str, field: str, limit: str | None = None) -> None:
        super().__init__(detail)
        self.remedy, self.field, self.limit = remedy, field, limit

    @classmethod
    def of(cls, error: ValidationError, modality: str, remedy: str, *, skip: int = 0) -> Self:
        """What is wrong with how a modality is said to come; ``skip``: names of its place that are no keys."""
        first = error.errors()[0]
        first["loc"] = (modality, *first["loc"][skip:])
        field = ".".join(map(str, ("modalities", *first["loc"])))
        return cls(f"{fault(first)}.", remedy, field, bounds(first) or None)


class BadChunk(ValueError):
    """A chunk that is not what its encoding says; the message says why."""


class BadState(ValueError):
    """A state that is refused; the message says why."""


class Busy(Exception):
    """No more sessions of this kind at the moment."""


class CannotStream(ValueError):
    """The checkpoint needs the whole input; the message says why."""
