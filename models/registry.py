"""The parts a network can be composed of, by the ``type`` a checkpoint's config names.

A checkpoint folder holds no code. A user's own part is a class in an installed package that registers itself here when
imported (``FUSIONRNN_PLUGINS`` names such modules), with the pydantic model of its configuration.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict
from torch import nn


class ComponentConfig(BaseModel):
    """Base of every part's configuration: frozen, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: str

    @classmethod
    def tiny(cls) -> Self:
        """A small instance, of which tests build networks: override it where a field has no default, or a large one."""
        return cls.model_validate({})

    @classmethod
    def variants(cls) -> list[Self]:
        """Small instances, one for each way in which the part can work: override it where there are several."""
        return [cls.tiny()]


class EncoderConfig(ComponentConfig):
    """Base of an encoder's configuration."""

    reads: ClassVar[tuple[str, ...]] = ()
    """Types of the features that it reads; empty if any."""

    def check(self, features: Any) -> None:
        """Compare sizes with those of the features, of a type that it reads: override it where there are any.

        Raises:
            ValueError: they do not agree.
        """


class FusionConfig(ComponentConfig):
    """Base of a fusion's configuration."""

    paired: ClassVar[bool] = False
    """Whether step k means the same in every modality, so that all that a row has must have equally many steps."""
    stepwise: ClassVar[bool] = False
    """Whether it gives a fused sequence, which a head with ``per`` 'step' reads."""


Part = TypeVar("Part")
Described = TypeVar("Described", bound=ComponentConfig)
Built = TypeVar("Built", bound=type[Any])


class Registry(Generic[Part, Described]):
    """Maps a type name to the class that implements it and the class that describes it."""

    def __init__(self, kind: str, base: type[Any]) -> None:
        """``base``: of all classes that describe a part of this ``kind``."""
        self.kind, self._base = kind, base
        self._parts: dict[str, tuple[type[Any], type[Described]]] = {}

    def register(self, name: str, config: type[Described]) -> Callable[[Built], Built]:
        """Class decorator: ``name`` builds the class from an instance of ``config``.

        Raises:
            ValueError: the name is taken by another class.
            TypeError: ``config`` is of another kind of part.
        """
        if not issubclass(config, self._base):
            raise TypeError(f"{self.kind} type '{name}': {config.__qualname__} must derive from {self._base.__name__}")

        def decorate(part: Built) -> Built:
            known = self._parts.get(name)
            # A module that is loaded again registers the same class anew.
            if known is not None and _whole_name(known[0]) != _whole_name(part):
                taken = f"already registered by {_whole_name(known[0])}"
                raise ValueError(f"{self.kind} type '{name}' of {_whole_name(part)} is {taken}: choose another name")
            self._parts[name] = (part, config)
            return part

        return decorate

    def names(self) -> list[str]:
        """The registered type names, sorted."""
        return sorted(self._parts)

    def config(self, name: str) -> type[Described]:
        """The class that describes parts of the type ``name``, which must be registered."""
        return self._parts[name][1]

    def part(self, name: str) -> type[Any]:
        """The class that implements the type ``name``, which must be registered."""
        return self._parts[name][0]

    def parse(self, value: object) -> Described:
        """The typed configuration for a mapping with a ``type`` key.

        Raises:
            ValueError: no such type is registered, or the mapping does not fit its configuration.
        """
        if isinstance(value, ComponentConfig):
            described: Described = value  # type: ignore[assignment]  # it has been parsed here before
            return described
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):
            raise ValueError(  # noqa: TRY004  pydantic reports only ValueErrors
                f"{self.kind} needs a mapping with a 'type'"
            )
        if value["type"] not in self._parts:
            raise ValueError(
                f"unknown {self.kind} type '{value['type']}': known are {', '.join(self.names())}; "
                "a type of your own must be imported first (FUSIONRNN_PLUGINS)"
            )
        return self._parts[value["type"]][1].model_validate(value)

    def build(self, config: ComponentConfig, *args: Any) -> Part:
        """A new part for ``config``; ``args`` are the sizes that only the network knows."""
        part: Part = self._parts[config.type][0](config, *args)
        return part


ENCODERS: Registry[nn.Module, EncoderConfig] = Registry("encoder", EncoderConfig)
FUSIONS: Registry[nn.Module, FusionConfig] = Registry("fusion", FusionConfig)
HEADS: Registry[nn.Module, ComponentConfig] = Registry("head", ComponentConfig)


def stride_of(encoder: nn.Module) -> int:
    """Steps of its features in one of an encoder's: 1, unless it has a ``stride``."""
    return int(getattr(encoder, "stride", 1))


def _whole_name(part: type[Any]) -> str:
    return f"{part.__module__}.{part.__qualname__}"
