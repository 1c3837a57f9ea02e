"""The contract of features: what stands between a modality's media and the tensor that its encoder reads.

The same object trains and serves. It knows which sources it reads, at which size or rate media are decoded for it, and
how to make a tensor of them; it knows nothing of networks.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from torch import Tensor

from models.features.text import TextTokenizer
from models.media.limits import MediaLimits
from models.registry import ComponentConfig, Registry

Modality = Literal["image", "text", "audio", "video"]
Sources: TypeAlias = Mapping[Modality, list[bytes | str]]
"""A bundle's media as posted, by the name of their part."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A bundle's tensors [T, ...] by modality, and what was noticed about its media: ``{"audio": ["silence"]}``."""

    tensors: dict[str, Tensor]
    notices: dict[str, list[str]] = field(default_factory=dict)

    @property
    def lengths(self) -> dict[str, int]:
        """Steps by modality."""
        return {name: len(tensor) for name, tensor in self.tensors.items()}


class Features(ComponentConfig, ABC):
    """Base of every modality's features, registered in ``FEATURES`` by their ``type``."""

    stand_ins: ClassVar[tuple[Modality, ...]] = ()
    """Parts that may be posted for the modality instead of its own: a video for pictures, or for its sound."""

    written: ClassVar[bool] = False
    """Whether the part is written text, which may come as a string, and not a file."""

    shares: ClassVar[bool] = False
    """Whether a stand-in serves this modality even where it is one of the network's modalities itself: sound does."""

    nothing: ClassVar[str | None] = None
    """The notice that says that there is nothing in the media: beside other modalities they only mislead."""

    def most_bytes(self, modality: Modality, limits: MediaLimits) -> int:
        """Most bytes that a part of the modality may have before it is decoded."""
        return limits.bytes_of(modality)

    @property
    def pace(self) -> float | None:
        """Seconds from step to step, where they are the same for all media."""
        return None

    @abstractmethod
    def decode(self, modality: Modality, sources: Sources, limits: MediaLimits, room: int) -> list[Any]:
        """The media of ``sources`` that are this modality's, decoded, at most ``room`` of them; else empty.

        Raises:
            MediaError: a medium cannot be used.
        """

    @abstractmethod
    def extract(self, media: list[Any], tokenizer: TextTokenizer | None = None) -> Tensor:
        """Decoded media (at least one) to the tensor [T, ...] that the encoder reads."""

    @abstractmethod
    def blank(self) -> list[Any]:
        """Made-up media of a usual size, as ``decode`` returns them: what a warm-up runs on."""

    def notices(self, media: list[Any], read: Tensor, tokenizer: TextTokenizer | None = None) -> list[str]:  # noqa: ARG002
        """What a reader of the answer should know about the media: names such as ``silence`` or ``no_face``.

        ``read`` is what ``extract`` made of them, so that nothing is computed twice.
        """
        return []


FEATURES: Registry[Features, Features] = Registry("features", Features)
"""Types are registered with themselves as their configuration: ``FEATURES.parse`` returns the object that extracts."""


def nothing_in(task: str, optional: Mapping[Modality, Features]) -> dict[str, str | None]:
    """The notices of modalities that need not be there, by which ``empty`` leaves them out.

    An embedding is of each modality by itself, and so of one that has nothing in it, too.
    """
    return {} if task == "embedding" else {name: features.nothing for name, features in optional.items()}


def empty(
    names: Collection[str], notices: Mapping[str, Collection[str]], nothing: Mapping[str, str | None]
) -> frozenset[str]:
    """Which of a bundle's modalities ``names`` are left out, in training as in serving, as nothing is in them.

    Args:
        notices: what was noticed of each, as ``Features.notices`` says it.
        nothing: by modality that may be left out, the notice that says so. Where all would be, none is.
    """
    found = frozenset(name for name in names if nothing.get(name) in notices.get(name, ()))
    return found if len(found) < len(names) else frozenset()


def as_bytes(data: bytes | str) -> bytes:
    """A medium as posted, in bytes: text may come as a string."""
    return data if isinstance(data, bytes) else data.encode()
