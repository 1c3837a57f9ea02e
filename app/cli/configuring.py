"""``settings`` and ``--version``: what an operator can set, and what is running."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.cli.values import values, written

_DEPENDING = {
    "FUSIONRNN_MODEL_DIR": "the shipped ones",
    "FUSIONRNN_DECODE_WORKERS": "as many as cores, 8 at most",
    "FUSIONRNN_COLLECTIONS_DIR": "`fusionrnn/collections` in `$XDG_DATA_HOME` or `~/.local/share`",
}
"""Defaults that differ from machine to machine, in words."""

_PAGE = """# Settings

Every setting is an environment variable; `fusionrnn settings` lists them too. A list in one variable is written as its
row says; an empty one counts as not set. What is misspelt is named in a warning at start-up, and what has a wrong
value, or is misspelt behind `FUSIONRNN_LIMITS__`, ends the start with its name.
The options of `fusionrnn serve` (`--host`, `--port`, `--model-dir`, `--device`) come before the variables.

| variable | values | default | what |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable, in words."""

    name: str
    values: str
    default: str
    meaning: str


def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="As docs/settings.md has them.")] = False,
) -> None:
    """List the environment variables that set what `fusionrnn serve` does."""
    if markdown:
        typer.echo(page(), nl=False)
        return
    for each in every_setting():
        told = f"{each.name}  ({each.values}; default: {each.default or 'none'})"
        typer.echo(f"{told.replace('`', '')}\n    {each.meaning}")


def page() -> str:
    """The contents of ``docs/settings.md``."""
    rows = [
        f"| `{each.name}` | {each.values} | {_code(each)} | {each.meaning} |".replace("|  |", "| |")
        for each in every_setting()
    ]
    return _PAGE + "\n".join(rows) + "\n"


def every_setting() -> Iterator[Setting]:
    """All settings, in the order of their declaration, each group's members one by one."""
    from app.settings import Settings

    schema = Settings.model_json_schema()
    yield from _settings(schema, schema, str(Settings.model_config["env_prefix"]))


def show_version(wanted: bool) -> None:
    """Print the version and end, if that is ``wanted``."""
    from importlib.metadata import PackageNotFoundError, version

    if not wanted:
        return
    try:
        typer.echo(f"fusionrnn {version('fusionrnn')}")
    except PackageNotFoundError:
        typer.echo("fusionrnn, not installed")
    raise typer.Exit


def _settings(schema: dict[str, Any], group: dict[str, Any], prefix: str) -> Iterator[Setting]:
    for name, field in group["properties"].items():
        variable = prefix + name.upper()
        if "$ref" in field:
            yield from _settings(schema, schema["$defs"][field["$ref"].rpartition("/")[2]], f"{variable}__")
            continue
        default = _DEPENDING.get(variable) or written(field.get("default"))
        meaning = " ".join(field["description"].split())
        yield Setting(variable, values(field), default, meaning)


def _code(setting: Setting) -> str:
    return setting.default if not setting.default or setting.name in _DEPENDING else f"`{setting.default}`"
