"""The words of a refusal: what pydantic found wrong, and the name that was probably meant."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

_MOST_SHOWN = 1000
_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, after the key it is in, if it is in one."""
    return fault(error.errors()[0])


def fault(found: Mapping[str, Any]) -> str:
    """The same of one entry of an error's ``errors()``."""
    where = ".".join(str(part) for part in found["loc"])
    said = str(found["msg"]).removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


def bounds(found: Mapping[str, Any]) -> str:
    """The range, or the values, that one entry of an error's ``errors()`` was not in; empty where there are none."""
    context = found.get("ctx", {})
    limits = [f"{sign} {context[name]}" for name, sign in _SIGNS.items() if name in context]
    return " and ".join(limits) or str(context.get("expected", ""))


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that refuses ``name``: the closest known one, or all of them."""
    names = sorted(known)
    if not names:
        return ": there are none"
    close = difflib.get_close_matches(name, names, 1)
    return f": did you mean '{close[0]}'?" if close else f": known are {', '.join(names)}"


def printable(said: str) -> str:
    """What repeats a stranger's words, of a bounded length, without what a terminal obeys or what no file can hold."""
    cut = said if len(said) <= _MOST_SHOWN else f"{said[:_MOST_SHOWN]}..."
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in cut)
