"""What a request may ask for besides its media; tasks and readings of streams add their own fields."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of every task's options: flat scalars, unknown ones refused, a checkpoint's defaults held to the bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def narrowed(options: BaseModel, kind: type[Options]) -> Options:
    """Options of another kind, with what ``options`` say of those that both have."""
    return kind.model_validate(options.model_dump(include=type(options).model_fields.keys() & kind.model_fields.keys()))
