"""What a streaming client may say in text: JSON objects with a ``type``."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import ServiceError, TooLarge, WrongFields, from_validation

T = TypeVar("T")
BEGIN = "session.start"

MODALITIES = ("audio", "video", "image")
"""By their number in a chunk's header."""


class _Message(BaseModel):
    # pydantic would else take JSON's true, and "1", for the number 1.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Start(_Message):
    """A new session, one that goes on from an exported state, or one that lost its connection."""

    type: Literal["session.start"]
    modalities: dict[str, dict[str, Any]] = Field({}, max_length=len(MODALITIES))
    options: dict[str, Any] = {}
    state: str | None = None
    session: str | None = Field(None, max_length=64)
    received: int | None = Field(None, ge=0)
    credit: int | None = Field(None, ge=0, le=1_000_000)


class Flush(_Message):
    """Answer what was heard as if it ended here; what comes next begins anew."""

    type: Literal["session.flush"]


class End(_Message):
    """Answer what was heard, and close."""

    type: Literal["session.end"]


class Export(_Message):
    """Send the state after all chunks so far."""

    type: Literal["session.export"]


class Credit(_Message):
    """How many more events may be sent, and which finals have come."""

    type: Literal["credit"]
    events: int = Field(0, ge=0, le=1_000_000)
    received: int | None = Field(None, ge=0)


_LATER = ("session.flush", "session.end", "session.export", "credit")
START: TypeAdapter[Start] = TypeAdapter(Start)
SAID: TypeAdapter[Flush | End | Export | Credit] = TypeAdapter(
    Annotated[Flush | End | Export | Credit, Field(discriminator="type")]
)


def parse(kind: TypeAdapter[T], text: str, most: int) -> T:
    """A message of a kind, of at most so many characters.

    Raises:
        ServiceError: it is none.
    """
    if len(text) > most:
        raise TooLarge("The message is too long.", "Media belong into binary frames.", limit=f"{most} characters")
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise _refusal(error) from error


def _refusal(error: ValidationError) -> ServiceError:
    """What a client is told of a message that is none of those that there are."""
    first = error.errors(include_url=False)[0]
    tag = first.get("ctx", {}).get("tag")
    if first["type"] == "union_tag_invalid" and tag == BEGIN:
        return WrongFields("The session has begun already.", "Open a connection for each session.", field="type")
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        said = "The message has no type." if tag is None else f"There is no message of the type '{tag}'."
        return WrongFields(said, f"There are {', '.join(_LATER)}.", field="type")
    if first["loc"] == ("type",):
        return WrongFields("The first message is of another type.", f"Begin with {BEGIN}.", field="type")
    return from_validation(error, ["the messages of docs/streaming.md"], "docs/streaming.md")
