"""The one family of errors that clients see, each class with its HTTP status; ``app.api.problems`` answers them."""

from typing import Any, ClassVar

from pydantic import ValidationError

from models.media.errors import MediaError, MediaOutOfBounds, MediaTooLarge, UndecodableMedia, UnsupportedMedia
from models.refusals import bounds


class ClientLeft(Exception):
    """Nobody is there any more to be answered."""


class ServiceError(Exception):
    """An answer that is not a success.

    Args:
        detail: what is wrong, in one sentence.
        remedy: what the client can do about it.
        modality: the part of the bundle that it is about.
        field: the option that it is about.
        limit: the bound that was crossed, with its unit.
        headers: to send along.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str,
        remedy: str | None = None,
        *,
        modality: str | None = None,
        field: str | None = None,
        limit: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.extensions = {"modality": modality, "field": field, "limit": limit, "remedy": remedy}
        self.detail = detail
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """The problem object."""
        said = {key: value for key, value in self.extensions.items() if value is not None}
        return problem_body(self.status, self.kind, self.title, self.detail) | said


class BadRequest(ServiceError):
    """The body cannot be read as what it claims to be."""

    status, kind, title = 400, "bad-request", "Unreadable request"


class Unauthorized(ServiceError):
    """No key was sent where one is needed."""

    status, kind, title = 401, "unauthorized", "Key needed"

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail, remedy, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(ServiceError):
    """Not with this key, or with none: the server has it switched off."""

    status, kind, title = 403, "forbidden", "Not allowed"


class NoSuchModel(ServiceError):
    """No such model."""

    status, kind, title = 404, "unknown-model", "Unknown model"


class NoSuchSession(ServiceError):
    """No such streaming session, or none any more."""

    status, kind, title = 404, "unknown-session", "Unknown session"


class NotAcceptable(ServiceError):
    """The model has no answer of the kind that Accept asks for."""

    status, kind, title = 406, "not-acceptable", "No such answer"


class UploadTimeout(ServiceError):
    """The request came too slowly. Says nothing of the server's load."""

    status, kind, title = 408, "upload-timeout", "Upload took too long"


class UpgradeRequired(ServiceError):
    """A plain request where sessions are opened, or a proxy that does not pass on that it asks for more."""

    status, kind, title = 426, "upgrade-required", "WebSocket needed"

    def __init__(self) -> None:
        said = "Sessions are opened by a WebSocket, and this request asks for none."
        remedy = "Open it with ws:// or wss://, and let a proxy in between pass the headers Upgrade and Connection."
        super().__init__(said, remedy, headers={"Connection": "Upgrade", "Upgrade": "websocket"})


class HeadTooLarge(ServiceError):
    """A request's first line and headers are larger than any client's."""

    status, kind, title = 431, "head-too-large", "Request header fields too large"


class Conflict(ServiceError):
    """Not as the server is set up, or as a collection is."""

    status, kind, title = 409, "conflict", "Not possible here"


class Gap(ServiceError):
    """A chunk of a stream came before those that it follows."""

    status, kind, title = 409, "gap", "Chunks are missing"


class LoadFailed(ServiceError):
    """A checkpoint's folder cannot be served. The detail says what is wrong with it; an administrator reads it."""

    status, kind, title = 409, "load-failed", "Checkpoint cannot be loaded"


class TooLarge(ServiceError):
    """More bytes than are taken in. The connection closes: the rest of the body is not read."""

    status, kind, title = 413, "too-large", "Too many bytes"


class UnsupportedType(ServiceError):
    """The body, or a medium in it, is of a kind that is not read."""

    status, kind, title = 415, "unsupported-media", "Unsupported media"


class WrongFields(ServiceError):
    """Parts or options that are missing, unknown, too many or out of range."""

    status, kind, title = 422, "wrong-fields", "Wrong parts or options"


class OutOfBounds(ServiceError):
    """A medium too long or too large to decode."""

    status, kind, title = 422, "out-of-bounds", "Medium out of bounds"


class Unavailable(ServiceError):
    """Loading, draining or full; Retry-After says when to come back."""

    status, kind, title = 503, "unavailable", "Not available now"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail, "Retry after the seconds in Retry-After.", headers={"Retry-After": str(retry_after)})


class StorageFailed(ServiceError):
    """The disk is full, or does not let itself be written or read."""

    status, kind, title = 507, "storage-failed", "Store cannot be used"


class DeadlinePassed(ServiceError):
    """The answer would come too late."""

    status, kind, title = 504, "deadline", "Deadline passed"


_MEDIA: dict[type[MediaError], type[ServiceError]] = {
    UndecodableMedia: BadRequest,
    UnsupportedMedia: UnsupportedType,
    MediaTooLarge: TooLarge,
    MediaOutOfBounds: OutOfBounds,
}


def from_media(error: MediaError) -> ServiceError:
    """What a client is told about a medium that cannot be used."""
    kind = next((_MEDIA[base] for base in type(error).__mro__ if base in _MEDIA), BadRequest)
    return kind(error.detail, error.remedy, modality=error.modality, limit=error.limit)


def from_validation(error: ValidationError, known: list[str], page: str = "/docs") -> ServiceError:
    """What a client is told about options: the first wrong one, every other in the sentence, and where to look."""
    problems = error.errors(include_url=False, include_context=True)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return unknown_field(field, known)
    limit = bounds(first)
    said = "; ".join(": ".join(filter(None, [".".join(map(str, item["loc"])), item["msg"]])) for item in problems)
    if not field:
        return WrongFields(f"{said}.", f"Send an object with {', '.join(known)}.", limit=limit or None)
    remedy = f"Send a value of {field} in the range that {page} shows, or leave it out."
    return WrongFields(f"{said}.", remedy, field=field, limit=limit or None)


def unknown_field(field: str, known: list[str]) -> ServiceError:
    """A part or an option that is not taken."""
    return WrongFields(f"There is no part or option '{field}' here.", f"There are {', '.join(known)}.", field=field)


def problem_body(status: int, kind: str, title: str, detail: str) -> dict[str, Any]:
    """The members that every problem has."""
    return {"type": f"urn:fusionrnn:problem:{kind}", "title": title, "status": status, "detail": detail}
