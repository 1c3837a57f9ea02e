"""The OpenAPI document: the predict operation once for each loaded checkpoint, with only its own parts and options."""

from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.api.problems import BODY, problems
from app.api.rules import EXPLAIN, needed
from app.api.uploads import TIMEOUT_HEADER
from app.engine.service import Service
from app.errors import problem_body
from app.samples import TEXT, sample
from models.media.limits import MediaLimits

if TYPE_CHECKING:
    from models.features import Modality
    from models.profile import Profile

TAGS = [
    {"name": "predict", "description": "Post media, get the answer of one checkpoint"},
    {"name": "collections", "description": "Photos and videos that are found by what a text says or a photo shows"},
    {"name": "models", "description": "What is served, and how good it is; loading and unloading need the admin key"},
    {"name": "health", "description": "For whoever runs the service"},
]
"""The document's sections, in the order in which people need them."""

_REF = "#/components/schemas/"
_STATUSES = BODY | {404: "The model was unloaded", 406: "Accept names no kind of answer that there is"}
_EVENTS = "Events token, or partial and final as in a stream; progress; at last result or error"
_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong"},
        "modality": {"type": "string", "description": "The part that it is about"},
        "field": {"type": "string", "description": "The option that it is about"},
        "limit": {"type": "string", "description": "The bound that was crossed"},
        "remedy": {"type": "string", "description": "What to do about it"},
    },
    "example": problem_body(422, "out-of-bounds", "Medium out of bounds", "The image is empty.")
    | {"modality": "image", "limit": "at least 1 byte", "remedy": "Send a file with content."},
}


def install(app: FastAPI, service: Service) -> None:
    """Build the document from what is loaded at the time of asking, and again when that has changed."""
    cached: tuple[object, dict[str, Any]] | None = None

    def build() -> dict[str, Any]:
        nonlocal cached
        registry = service.registry
        served = registry.served
        if cached is None or cached[0] is not served:
            cached = (served, _document(app, list(registry.profiles.values()), service.settings.limits))
        return cached[1]

    app.openapi = build  # type: ignore[method-assign]


def _document(app: FastAPI, profiles: list["Profile"], limits: MediaLimits) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    references, definitions = models_json_schema(
        [(profile.result, "serialization") for profile in profiles], ref_template=_REF + "{model}"
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    _drop_never(document, schemas)
    schemas |= definitions.get("$defs", {}) | {"Problem": _PROBLEM_SCHEMA}
    for profile in sorted(profiles, key=lambda profile: profile.config.name):
        answer = references[profile.result, "serialization"]
        document["paths"][f"/v1/models/{profile.config.name}/predict"] = {"post": _operation(profile, answer, limits)}
    return document


def _drop_never(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Take out the 422 that FastAPI notes wherever an address has a name in it: any string is one."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)


def _operation(profile: "Profile", answer: dict[str, Any], limits: MediaLimits) -> dict[str, Any]:
    config = profile.config
    whole = {"allOf": [_head_schema(profile), answer]}
    head = {"id": "5f0c", "model": config.name, "version": config.version, "task": config.task}
    answers: dict[str, Any] = {
        "application/json": {"schema": whole, "example": head | profile.example},
        "text/event-stream": {"schema": {"type": "string", "description": _EVENTS}},
    }
    if profile.draws:
        answers["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    refusals = {str(status): said for status, said in problems(_STATUSES).items()}
    example = {name: sample(name, item.features) for name, item in config.modalities.items()}
    content: dict[str, Any] = {
        "multipart/form-data": {"schema": _body(profile, limits, list(profile.accepts), base64=False)},
        "application/json": {"schema": _body(profile, limits, list(profile.accepts), base64=True), "example": example},
    }
    written = [name for name in profile.accepts if profile.is_written(name)]
    if written and needed(profile) <= set(written):
        content["application/x-www-form-urlencoded"] = {"schema": _body(profile, limits, written, base64=False)}
    return {
        "tags": ["predict"],
        "summary": f"{config.name}: {config.task}",
        "description": config.description,
        "operationId": f"predict_{config.name}",
        "parameters": [TIMEOUT_HEADER],
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The answer", "content": answers}, **refusals},
    }


def _head_schema(profile: "Profile") -> dict[str, Any]:
    config = profile.config
    fixed = {"model": config.name, "version": config.version, "task": config.task}
    return {
        "type": "object",
        "required": ["id", *fixed],
        "properties": {"id": {"type": "string"}} | {key: {"const": item} for key, item in fixed.items()},
    }


def _body(profile: "Profile", limits: MediaLimits, names: list["Modality"], *, base64: bool) -> dict[str, Any]:
    parts = {name: _part(profile, name, profile.accepts[name], limits, base64=base64) for name in names}
    options = {name: _option(item) for name, item in profile.options.model_json_schema()["properties"].items()}
    if profile.explains:
        options[EXPLAIN] = {"type": "boolean", "default": False, "description": "Say what the network looked at"}
    body: dict[str, Any] = {"type": "object", "properties": parts | options, "additionalProperties": False}
    if required := sorted(needed(profile)):
        body["required"] = required
    return body


def _part(profile: "Profile", name: "Modality", most: int, limits: MediaLimits, *, base64: bool) -> dict[str, Any]:
    item = profile.config.modalities.get(name)
    array = item is not None and item.features.type == "vectors"
    written = profile.is_written(name)
    if written:
        one: dict[str, Any] = {"type": "string", "maxLength": limits.text_characters, "examples": [TEXT]}
    elif base64:
        one = {"type": "string", "contentEncoding": "base64"}
    else:
        one = {"type": "string", "format": "binary"}
    bound = "" if written else f", at most {profile.part_bytes(name, limits)} bytes each"
    kind = f"{name} as a .npy file of feature vectors" if array else name
    said = {"description": f"At most {most} {kind}{bound}"}
    if most == 1:
        return one | said
    several = {"type": "array", "items": one, "maxItems": most}
    return ({"oneOf": [one, several]} if base64 else several) | said


def _option(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` without its null branch: a form leaves out what it does not set."""
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    if len(choices) != 1:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    only: dict[str, Any] = choices[0]
    return only | rest
