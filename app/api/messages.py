"""What a streaming client may say in text: JSON objects with a ``type``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.errors import TooLarge, from_validation

MODALITIES = ("audio", "video", "image")
"""By their number in a chunk's header."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


START: TypeAdapter[Start] = TypeAdapter(Start)
SAID: TypeAdapter[Flush | End | Export | Credit] = TypeAdapter(
    Annotated[Flush | End | Export | Credit, Field(discriminator="type")]
)


def parse(kind: TypeAdapter[Any], text: str, most: int) -> Any:
    """A message of a kind, of at most so many characters.

    Raises:
        ServiceError: it is none.
    """
    if len(text) > most:
        raise TooLarge("The message is too long.", "Media belong into binary frames.", limit=f"{most} characters")
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        raise from_validation(error, ["the messages of docs/streaming.md"], "docs/streaming.md") from error
