"""A request's body, multipart or JSON, read in bounded memory: whatever is too much is refused while it arrives.

Nothing is written to disk. A part's name decides what it may weigh, before its first byte is taken.
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from app.engine.admission import Place
from app.engine.runner import Runner
from app.errors import BadRequest, ServiceError, TooLarge, UnsupportedType, WrongFields, unknown_field
from models.media.limits import MediaLimits

if TYPE_CHECKING:
    from models.features import Modality
    from models.profile import Profile

EXPLAIN = "explain"
_OPTION_BYTES = 4096
_AROUND = 2048
"""Bytes around a part: a boundary and headers, or quotes and a key."""
_BASE64, _ESCAPED = 4 / 3, 6
"""Bytes of JSON for a byte of a file, and for a character of a text as ``\\u0041``."""
_SHORT_BODY = 16 * 2**10
_SLICE = 2**20
"""Characters of base64, a multiple of four, that are decoded at a time: meanwhile no other thread may run."""
_CLOSE = {"Connection": "close"}


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
    def of(cls, pipeline: "Profile", limits: MediaLimits, most_bytes: int) -> "Rules":
        """The rules of ``pipeline``."""
        options = (*pipeline.options.model_fields, EXPLAIN)
        part_bytes = {part: pipeline.part_bytes(part, limits) for part in pipeline.accepts}
        written = frozenset(part for part in pipeline.accepts if pipeline.is_written(part))
        return cls(pipeline.accepts, part_bytes, written, options, needed(pipeline), most_bytes)

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
        return min(self.most_bytes, round(media) + len(self.options) * _ESCAPED * _OPTION_BYTES + parts * _AROUND)

    def bytes_of(self, name: str) -> int:
        """Most bytes of a part."""
        return next((most for part, most in self.part_bytes.items() if part == name), _OPTION_BYTES)

    def check_name(self, name: str, count: int) -> None:
        """Refuse the ``count``-th part of the name where there may not be as many.

        Raises:
            WrongFields: unknown, not for this model, or too many.
        """
        modality = next((known for known in self.accepts if known == name), None)
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
        most = self.bytes_of(name)
        modality = name if name in self.accepts else None
        remedy = "Send a smaller one: fewer pixels, a shorter clip or text, or a stronger compression."
        limit = f"{most} bytes"
        return TooLarge(
            f"The part '{name}' has more than {most} bytes.",
            remedy if modality else "Send the option's value and nothing else.",
            modality=modality,
            field=None if modality else name,
            limit=limit,
            headers=_CLOSE,
        )

    def _stranger(self, name: str) -> ServiceError:
        from models.features import Modality

        if name not in get_args(Modality):
            return unknown_field(name, self.known)
        return WrongFields(f"This model takes no {name}.", f"It takes {', '.join(self.accepts)}.", modality=name)


@dataclass(slots=True)
class Posted:
    """A body's parts: media by modality, in the order of posting, and the options as sent."""

    bundle: dict["Modality", list[bytes | str]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def add(self, rules: Rules, name: str, value: Any) -> None:
        """Take in a part whose name was checked."""
        modality = next((known for known in rules.accepts if known == name), None)
        if modality is None:
            self.options[name] = value
        else:
            self.bundle.setdefault(modality, []).append(value)


def needed(pipeline: "Profile") -> frozenset["Modality"]:
    """The parts that no request for ``pipeline`` does without."""
    # Where a video may stand in for pictures or sound, neither of the two is needed by itself.
    items = pipeline.config.modalities.items()
    return frozenset(name for name, item in items if item.required and not item.features.stand_ins)


async def read_body(
    headers: Headers, chunks: AsyncIterator[bytes], rules: Rules, runner: Runner, place: Place
) -> Posted:
    """The parts of a request's body, the bytes of which are counted at its ``place``.

    Raises:
        ServiceError: too large, unreadable, or not what the model takes.
    """
    declared = headers.get("content-length")
    if declared is not None and int(declared) > rules.body_bytes:
        raise _body_too_large(rules)
    if declared == "0" or (declared is None and "transfer-encoding" not in headers):
        parts = ", ".join(rules.accepts)
        raise BadRequest("The request has no body.", f"Post {parts}.", modality=parts, limit="at least 1 part")
    if (coding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise UnsupportedType(f"A body with Content-Encoding: {coding} is not read.", "Send it uncompressed.")
    kind, parameters = parse_options_header(headers.get("content-type"))
    if kind == b"multipart/form-data":
        posted = await _read_multipart(_bounded(chunks, rules, place), parameters.get(b"boundary", b""), rules)
    elif kind == b"application/json":
        body = bytearray()
        async for chunk in _bounded(chunks, rules, place):
            body += chunk
        # Decoding megabytes of base64 would hold up every other request; a sentence takes less time than the way there.
        if len(body) <= _SHORT_BODY:
            posted = _read_json(body, rules)
        else:
            posted = await runner.offload(lambda: _read_json(body, rules))
    else:
        remedy = "Send multipart/form-data, or application/json with base64 parts."
        raise UnsupportedType(f"A body of type '{kind.decode('latin-1')}' is not read.", remedy)
    _check_enough(posted, rules)
    place.received()
    return posted


async def _bounded(chunks: AsyncIterator[bytes], rules: Rules, place: Place) -> AsyncIterator[bytes]:
    received, most = 0, rules.body_bytes
    async for chunk in chunks:
        received += len(chunk)
        place.receive(len(chunk))
        if received > most:
            raise _body_too_large(rules)
        yield chunk


def _body_too_large(rules: Rules) -> ServiceError:
    limit = f"{rules.body_bytes} bytes"
    said = f"The request's body has more than {limit}, its parts {', '.join(rules.accepts)} together."
    return TooLarge(said, "Send smaller or fewer parts.", limit=limit, headers=_CLOSE)


async def _read_multipart(chunks: AsyncIterator[bytes], boundary: bytes, rules: Rules) -> Posted:
    form = _Form(rules)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        said = f"The multipart body is malformed: {error}."
        raise BadRequest(said, "Send it whole, in the form that RFC 7578 describes.", headers=_CLOSE) from error
    if not form.ended:
        raise BadRequest("The multipart body ends before its last boundary.", "Send all of it.")
    return form.posted


class _Form:
    """Collects parts from the parser's callbacks; an exception from one of them ends the parsing."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.posted = Posted()
        self.ended = False
        self._counts: dict[str, int] = {}
        self._header, self._value = b"", b""
        self._disposition: bytes | None = None
        self._name, self._most = "", 0
        self._filename: bytes | None = None
        self._data = bytearray()

    def callbacks(self) -> Any:
        """By the names that python-multipart calls them."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = None
        self._data = bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        header, value = self._header.lower(), self._value.strip().lower()
        if header == b"content-disposition":
            self._disposition = self._value
        elif header == b"content-transfer-encoding" and value not in (b"binary", b"8bit", b"7bit"):
            said = f"A part with Content-Transfer-Encoding: {value.decode('latin-1')} is not read."
            raise UnsupportedType(said, "Send its bytes as they are (RFC 7578, section 4.7).", headers=_CLOSE)
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise BadRequest("A part has no name.", "Name every part in its Content-Disposition.", headers=_CLOSE)
        self._name = options[b"name"].decode("utf-8", "replace")
        self._filename = options.get(b"filename")
        self._counts[self._name] = self._counts.get(self._name, 0) + 1
        self.rules.check_name(self._name, self._counts[self._name])
        self._most = self.rules.bytes_of(self._name)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if len(self._data) + end - start > self._most:
            raise self.rules.too_large(self._name)
        self._data += data[start:end]

    def _part_end(self) -> None:
        # Forms send an empty value for each field that was not filled in. A file that has a name was chosen, so its
        # emptiness is for the decoder to complain about.
        if not self._data and not self._filename:
            return
        is_option = self._name in self.rules.options
        value = self._data.decode("utf-8", "replace") if is_option else bytes(self._data)
        self.posted.add(self.rules, self._name, value)

    def _end(self) -> None:
        self.ended = True


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
    _check_enough(posted, rules)
    return posted


def _read_json(body: bytes | bytearray, rules: Rules) -> Posted:
    # An array of empty arrays takes a hundred times its size in memory, and as long as it is read nothing else runs.
    values = sum(rules.accepts.values()) + len(rules.options)
    text = sum(rules.accepts[part] * rules.part_bytes[part] for part in rules.written)
    if sum(map(body.count, b",[{")) > values + text + len(rules.options) * _OPTION_BYTES:
        remedy = f"Send one object whose keys are {', '.join(rules.known)}, with media as base64."
        raise BadRequest(f"The body holds more than {values} values.", remedy, limit=f"{values} values")
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is not JSON: {error}.", "Send one JSON object in UTF-8.") from error
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.", f"Its keys are {', '.join(rules.known)}.")
    posted = Posted()
    for name, item in value.items():
        rules.check_name(name, 1)
        if name in rules.options:
            if item is not None:
                posted.add(rules, name, item)
            continue
        items = item if isinstance(item, list) else [] if item is None else [item]
        rules.check_name(name, max(len(items), 1))
        for entry in items:
            posted.add(rules, name, _json_medium(name, entry, rules))
    return posted


def _json_medium(name: str, entry: Any, rules: Rules) -> bytes | str:
    if not isinstance(entry, str):
        raise BadRequest(f"'{name}' must be a string or a list of strings.", "Send media as base64.", modality=name)
    if name in rules.written:
        return entry
    if len(entry) // 4 * 3 - 2 > rules.bytes_of(name):
        raise rules.too_large(name)
    try:
        slices = (entry[at : at + _SLICE] for at in range(0, len(entry), _SLICE))
        return b"".join(base64.b64decode(part, validate=True) for part in slices)
    except (binascii.Error, ValueError) as error:
        remedy = "Encode the file with the standard alphabet, padded, without line breaks or a data: prefix."
        raise BadRequest(f"'{name}' is not base64: {error}.", remedy, modality=name) from error


def _check_enough(posted: Posted, rules: Rules) -> None:
    missing = sorted(rules.needed - posted.bundle.keys())
    if posted.bundle and not missing:
        return
    accepted = ", ".join(f"{name} (at most {most})" for name, most in rules.accepts.items())
    said = f"The part '{missing[0]}' is missing or empty." if missing else "Every part is missing or empty."
    named = missing[0] if missing else ", ".join(rules.accepts)
    raise WrongFields(said, f"Post {accepted}.", modality=named, limit="at least 1 part")
