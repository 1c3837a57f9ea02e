"""What a request may ask for besides its media; tasks and readings of streams add their own fields."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model, field_validator


class Options(BaseModel):
    """Base of every task's options: flat scalars, unknown ones refused, a checkpoint's defaults held to the bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_number(cls, value: Any) -> Any:
        """A boolean as a form has it, a word: pydantic would take JSON's true for the number 1."""
        return str(value).lower() if isinstance(value, bool) else value


def options_model(title: str, defaults: Mapping[str, Any], **fields: tuple[Any, Any]) -> type[Options]:
    """Options by name, each of its kind and with its default: a checkpoint's own, else the usual one."""
    own: Any = {name: (kind, defaults.get(name, usual)) for name, (kind, usual) in fields.items()}
    made: type[Options] = create_model(title, __base__=Options, **own)
    return made


def narrowed(options: BaseModel, kind: type[Options]) -> Options:
    """Options of another kind, with what ``options`` say of those that both have."""
    return kind.model_validate(options.model_dump(include=type(options).model_fields.keys() & kind.model_fields.keys()))
