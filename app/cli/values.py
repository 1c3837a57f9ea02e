"""What a field of a JSON schema takes, in words, for the pages that list settings and parts."""

import json
from typing import Any

_KINDS = {
    "integer": "whole number",
    "number": "number",
    "array": "list",
    "boolean": "`true`, `false`",
    "object": "table",
}


def values(field: dict[str, Any]) -> str:
    """Which values a field takes."""
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    (kind,) = (kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null")
    if kind.get("writeOnly"):
        return "secret"
    if kind.get("format") == "path":
        return "folder"
    said = _KINDS.get(kind["type"], "text")
    least, most = kind.get("minimum"), kind.get("maximum")
    above, below = kind.get("exclusiveMinimum"), kind.get("exclusiveMaximum")
    if least is not None and most is not None:
        return f"{said}, {least:,} to {most:,}"
    bounds = [
        f"{word} {bound:,}"
        for word, bound in (("at least", least), ("above", above), ("at most", most), ("below", below))
        if bound is not None
    ]
    return ", ".join([said, *bounds])


def written(default: Any) -> str:
    """A default as one would write it; nothing where there is none."""
    return default if isinstance(default, str) else "" if default in (None, []) else json.dumps(default)
