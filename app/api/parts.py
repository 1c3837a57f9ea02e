"""A request's body, a form or JSON, read in bounded memory: whatever is too much is refused while it arrives.

Nothing is written to disk. A part's name decides what it may weigh, before its first byte is taken.
"""

import base64
import binascii
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers

from app.api.rules import CLOSE, OPTION_BYTES, Posted, Rules
from app.engine.admission import Reservation
from app.errors import BadRequest, ServiceError, TooLarge, UnsupportedType, WrongFields

_SLICE = 2**20
"""Characters of base64, a multiple of four, that are decoded at a time: meanwhile no other thread may run."""


def declared(headers: Headers) -> int:
    """Bytes of the body as announced; 0 where nothing is."""
    value = headers.get("content-length", "")
    return int(value) if value.isdecimal() else 0


@dataclass(frozen=True, slots=True)
class Whole:
    """A body that is read once all of it is there, and by what."""

    data: bytearray
    read: Callable[[bytearray, Rules], Posted]


async def read_body(
    headers: Headers, chunks: AsyncIterator[bytes], rules: Rules, reservation: Reservation
) -> Posted | Whole:
    """The parts of a request's body, the bytes of which are counted at its ``reservation``.

    Raises:
        ServiceError: too large, unreadable, or not what the model takes.
    """
    if (announced := declared(headers)) > rules.body_bytes:
        raise _body_too_large(rules)
    if not announced and "transfer-encoding" not in headers:
        parts = ", ".join(rules.accepts)
        raise BadRequest("The request has no body.", f"Post {parts}.", modality=parts, limit="at least 1 part")
    if (coding := headers.get("content-encoding", "identity").lower()) != "identity":
        raise UnsupportedType(f"A body with Content-Encoding: {coding} is not read.", "Send it uncompressed.")
    kind, parameters = parse_options_header(headers.get("content-type"))
    if kind == b"multipart/form-data":
        if not parameters.get(b"boundary"):
            remedy = "Let your client set Content-Type by itself: it knows its boundary."
            raise BadRequest("The Content-Type multipart/form-data has no boundary.", remedy, headers=CLOSE)
        return await _read_multipart(_bounded(chunks, rules, reservation), parameters[b"boundary"], rules)
    if (read := _READERS.get(kind)) is not None:
        body = bytearray()
        async for chunk in _bounded(chunks, rules, reservation):
            body += chunk
        return Whole(body, read)
    remedy = "Send multipart/form-data, or application/json with base64 parts."
    said = f"A body of type '{kind.decode('latin-1')}' is not read." if kind else "The body has no Content-Type."
    raise UnsupportedType(said, remedy)


async def _bounded(chunks: AsyncIterator[bytes], rules: Rules, reservation: Reservation) -> AsyncIterator[bytes]:
    received, most = 0, rules.body_bytes
    async for chunk in chunks:
        received += len(chunk)
        reservation.receive(len(chunk))
        if received > most:
            raise _body_too_large(rules)
        yield chunk


def _body_too_large(rules: Rules) -> ServiceError:
    limit = f"{rules.body_bytes} bytes"
    said = f"The request's body has more than {limit}, its parts {', '.join(rules.accepts)} together."
    return TooLarge(said, "Send smaller or fewer parts.", limit=limit, headers=CLOSE)


async def _read_multipart(chunks: AsyncIterator[bytes], boundary: bytes, rules: Rules) -> Posted:
    form = _Form(rules)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in _from_first_boundary(chunks, boundary):
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        said = f"The multipart body is malformed: {error}."
        raise BadRequest(said, "Send it whole, in the form that RFC 7578 describes.", headers=CLOSE) from error
    if not form.ended:
        raise BadRequest("The multipart body ends before its last boundary.", "Send all of it.")
    return form.posted


async def _from_first_boundary(chunks: AsyncIterator[bytes], boundary: bytes) -> AsyncIterator[bytes]:
    """Leave out what may stand before the parts, for nobody to read (RFC 2046, section 5.1.1).

    Raises:
        BadRequest: there are no parts.
    """
    line = b"\n--" + boundary
    # As if another line came before: of a body without such words the boundary is the beginning.
    held = b"\n"
    async for chunk in chunks:
        if not line:
            yield chunk
            continue
        held += chunk
        if (at := held.find(line)) < 0:
            held = held[-len(line) :]
        else:
            line = b""
            yield held[at + 1 :]
    if line:
        said = "The multipart body has no line with the boundary that its Content-Type names."
        raise BadRequest(said, "Let your client set Content-Type by itself: it knows its boundary.")


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
            raise UnsupportedType(said, "Send its bytes as they are (RFC 7578, section 4.7).", headers=CLOSE)
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise BadRequest("A part has no name.", "Name every part in its Content-Disposition.", headers=CLOSE)
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


def read_urlencoded(body: bytearray, rules: Rules) -> Posted:
    """The parts of a form without files, as most HTTP libraries send what they are given by name.

    Raises:
        ServiceError: a field is too large, a file, or not what the model takes.
    """
    most = sum(rules.accepts.values()) + len(rules.options)
    if body.count(b"&") >= _ROOM * most:
        raise BadRequest(f"The form has more than {_ROOM * most} fields.", f"Its fields are {', '.join(rules.known)}.")
    posted, counts = Posted(), Counter[str]()
    for field in body.split(b"&"):
        if not field:
            continue
        quoted, _, value = field.partition(b"=")
        name = _unquoted(quoted[:OPTION_BYTES]).decode("utf-8", "replace")
        counts[name] += 1
        rules.check_name(name, counts[name])
        modality = rules.modality(name)
        if modality is not None and modality not in rules.written:
            said = f"'{name}' is a file, and the body a form without files."
            raise UnsupportedType(said, "Send it as multipart/form-data.", modality=name)
        # Of three characters for a byte at most, what is more need not be decoded to be refused.
        data = _unquoted(value[: 3 * rules.bytes_of(name) + 1])
        if len(data) > rules.bytes_of(name):
            raise rules.too_large(name)
        if data:
            posted.add(rules, name, data.decode("utf-8", "replace") if modality is None else data)
    return posted


def _unquoted(data: bytes | bytearray) -> bytes:
    return unquote_to_bytes(bytes(data).replace(b"+", b" "))


def read_json(body: bytearray, rules: Rules) -> Posted:
    """The parts of a body of JSON.

    Raises:
        ServiceError: it is none, or not what the model takes.
    """
    # An array of empty arrays takes a hundred times its size in memory, and as long as it is read nothing else runs.
    # Each part may be a list, so that one too many of it is told by its name.
    values = sum(most + 2 for most in rules.accepts.values()) + len(rules.options)
    text = sum(rules.accepts[part] * rules.part_bytes[part] for part in rules.written)
    if sum(map(body.count, b",[{")) > values + text + len(rules.options) * OPTION_BYTES:
        remedy = f"Send one object whose keys are {', '.join(rules.known)}, with media as base64."
        raise BadRequest(f"The body holds more than {values} values.", remedy, limit=f"{values} values")
    try:
        value = json.loads(body, object_pairs_hook=_once)
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.", "Send one flat JSON object.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body is not JSON: {error}.", "Send one JSON object in UTF-8.") from error
    except ValueError as error:  # what Python refuses to turn into a number
        said, limit = "The body has a number of too many digits.", f"{sys.get_int_max_str_digits()} digits"
        raise BadRequest(said, "Send numbers within the ranges that /docs shows.", limit=limit) from error
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


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of them.

    Raises:
        WrongFields: a key comes twice, of which one would be lost.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise WrongFields(f"The key '{name}' comes twice.", "Send several media of a kind as one list.", field=name)
        found[name] = value
    return found


_READERS = {b"application/json": read_json, b"application/x-www-form-urlencoded": read_urlencoded}
_ROOM = 4
"""Fields of a form for each that means something: the rest are empty, as forms send them."""


def _json_medium(name: str, entry: Any, rules: Rules) -> bytes | str:
    if not isinstance(entry, str):
        remedy = "Send the text as it is." if name in rules.written else "Send media as base64."
        raise BadRequest(f"'{name}' must be a string or a list of strings.", remedy, modality=name)
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
