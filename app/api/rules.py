"""What a request for one checkpoint may hold, however it comes: which parts, how many, how large, and which options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast, get_args

from app.errors import ServiceError, TooLarge, WrongFields, unknown_field
from models.media.limits import MediaLimits

if TYPE_CHECKING:
    from models.features import Modality
    from models.profile import Profile

EXPLAIN = "explain"
OPTION_BYTES = 4096
CLOSE = {"Connection": "close"}
"""For whoever still sends what is not read."""
_AROUND = 2048
"""Bytes around a part: a boundary and headers, or quotes and a key."""
_BASE64, _ESCAPED = 4 / 3, 6
"""Bytes of JSON for a byte of a file, and for a character of a text as ``\\u0041``."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What one checkpoint takes: most parts of each modality, and the names of its options."""

    accepts: Mapping["Modality", int]
    part_bytes: Mapping["Modality", int]
    written: frozenset["Modality"]
    options: tuple[str, ...]
    needed: frozenset["Modality"]
    most_bytes: int

    @classmethod
    def of(cls, profile: "Profile", limits: MediaLimits, most_bytes: int) -> "Rules":
        """The rules of ``profile``."""
        options = (*profile.options.model_fields, EXPLAIN)
        part_bytes = {part: profile.part_bytes(part, limits) for part in profile.accepts}
        written = frozenset(part for part in profile.accepts if profile.is_written(part))
        return cls(profile.accepts, part_bytes, written, options, needed(profile), most_bytes)

    @property
    def known(self) -> list[str]:
        """Every name that a body may use."""
        return [*self.accepts, *self.options]

    @property
    def body_bytes(self) -> int:
        """Most bytes of a body: the server's bound, or less where its parts have less together, written as JSON."""
        media = sum(
            most * self.part_bytes[part] * (_ESCAPED if part in self.written else _BASE64)
            for part, most in self.accepts.items()
        )
        parts = sum(self.accepts.values()) + len(self.options)
        return min(self.most_bytes, round(media) + len(self.options) * _ESCAPED * OPTION_BYTES + parts * _AROUND)

    def modality(self, name: str) -> "Modality | None":
        """The modality of a part; None of an option, or of what is not taken."""
        return cast("Modality", name) if name in self.accepts else None

    def bytes_of(self, name: str) -> int:
        """Most bytes of a part."""
        modality = self.modality(name)
        return OPTION_BYTES if modality is None else self.part_bytes[modality]

    def check_name(self, name: str, count: int) -> None:
        """Refuse the ``count``-th part of the name where there may not be as many.

        Raises:
            WrongFields: unknown, not for this model, or too many.
        """
        modality = self.modality(name)
        if modality is None and name not in self.options:
            raise self._stranger(name)
        most = self.accepts[modality] if modality else 1
        if count > most:
            said = f"More than {most} {'part' if most == 1 else 'parts'} '{name}' in one request."
            remedy = f"Send at most {most}."
            raise WrongFields(
                said, remedy, modality=modality, field=None if modality else name, limit=f"{most} {name} per request"
            )

    def too_large(self, name: str) -> ServiceError:
        """What to say about a part that weighs too much."""
        most, modality = self.bytes_of(name), self.modality(name)
        remedy = "Send a smaller one: fewer pixels, a shorter clip or text, or a stronger compression."
        limit = f"{most} bytes"
        return TooLarge(
            f"The part '{name}' has more than {most} bytes.",
            remedy if modality else "Send the option's value and nothing else.",
            modality=modality,
            field=None if modality else name,
            limit=limit,
            headers=CLOSE,
        )

    def _stranger(self, name: str) -> ServiceError:
        from models.features import Modality

        if name not in get_args(Modality):
            return unknown_field(name, self.known)
        return WrongFields(f"No {name} is taken here.", f"Send {' or '.join(self.accepts)}.", modality=name)


@dataclass(slots=True)
class Posted:
    """A body's parts: media by modality, in the order of posting, and the options as sent."""

    bundle: dict["Modality", list[bytes | str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def add(self, rules: Rules, name: str, value: Any) -> None:
        """Take in a part whose name was checked."""
        modality = rules.modality(name)
        if modality is None:
            self.options[name] = value
        else:
            self.bundle.setdefault(modality, []).append(value)


def needed(profile: "Profile") -> frozenset["Modality"]:
    """The parts that no request for ``profile`` does without."""
    # Where a video may stand in for pictures or sound, neither of the two is needed by itself.
    items = profile.config.modalities.items()
    return frozenset(name for name, item in items if item.required and not item.features.stand_ins)


def check_parts(bundle: Mapping[str, list[Any]], rules: Rules) -> Posted:
    """Parts that did not come over HTTP, held to the same rules.

    Raises:
        WrongFields: unknown, too many or too few.
    """
    posted = Posted()
    for name, items in bundle.items():
        rules.check_name(name, len(items))
        for item in items:
            posted.add(rules, name, item)
    check_enough(posted, rules)
    return posted


def check_explain(profile: "Profile", explain: bool) -> None:
    """Refuse to explain where nothing can be explained.

    Raises:
        WrongFields: nothing can.
    """
    if explain and not profile.explains:
        remedy = "Leave explain out, or ask a model whose card says explains: true."
        raise WrongFields("This model explains nothing.", remedy, field=EXPLAIN)


def check_enough(posted: Posted, rules: Rules) -> None:
    """Refuse what lacks a part that is needed, or has none at all.

    Raises:
        WrongFields: it does.
    """
    missing = sorted(rules.needed - posted.bundle.keys())
    if posted.bundle and not missing:
        return
    accepted = " or ".join(f"{name} (at most {most})" for name, most in rules.accepts.items())
    said = f"The part '{missing[0]}' is missing or empty." if missing else "Every part is missing or empty."
    named = missing[0] if missing else ", ".join(rules.accepts)
    raise WrongFields(said, f"Post {accepted}.", modality=named, limit="at least 1 part")
