"""``models parts``: every registered part that an experiment or a checkpoint may name, with its keys."""

import inspect
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from app.cli.common import import_plugins
from app.cli.values import values, written

if TYPE_CHECKING:
    from models.registry import Registry

_PAGE = """# Parts of a network

What may stand in the tables of an experiment ([train on your own data](train-your-own.md)) and in a checkpoint's
`config.json`: each part by its `type`, with the keys that it takes. `fusionrnn models parts` prints this page, with
parts of your own that `FUSIONRNN_PLUGINS` names. What is "from the data" an experiment may leave out; a checkpoint's
config says it.
"""


def parts() -> None:
    """List the parts that networks can be made of, and their keys, in Markdown."""
    import_plugins()
    typer.echo(page(), nl=False)


def page() -> str:
    """The contents of ``docs/parts.md``."""
    import models.encoders
    import models.fusion
    import models.heads  # noqa: F401  these three register the parts
    from models.features import FEATURES
    from models.registry import ENCODERS, FUSIONS, HEADS

    lines = [_PAGE]
    registries: dict[str, Registry[Any, Any]] = {
        "Features": FEATURES,
        "Encoders": ENCODERS,
        "Fusions": FUSIONS,
        "Heads": HEADS,
    }
    for title, registry in registries.items():
        lines += [f"## {title}", ""]
        for name in registry.names():
            lines += _part(name, registry)
    return "\n".join(lines).rstrip("\n") + "\n"


def _part(name: str, registry: "Registry[Any, Any]") -> Iterator[str]:
    from models.registry import EncoderConfig

    config = registry.config(name)
    part = registry.part(name)
    yield from (f"### {name}", "")
    module = sys.modules[part.__module__]
    # What a module says of its one part, such as the paper that it is from.
    if sum(registry.part(other).__module__ == module.__name__ for other in registry.names()) == 1:
        yield from (_plain(inspect.getdoc(module)), "")
    yield from (_plain(inspect.cleandoc(part.__doc__ or "").partition("\n\n")[0]), "")
    if issubclass(config, EncoderConfig) and (reads := config.reads):
        yield from (f"Reads the features {' or '.join(f'`{kind}`' for kind in reads)}.", "")
    yield from ("| key | values | default | |", "|---|---|---|---|")
    schema = config.model_json_schema()
    for key, field in schema["properties"].items():
        if key != "type":
            default = f"`{written(field['default']) or 'none'}`" if "default" in field else "from the data"
            yield f"| `{key}` | {values(field)} | {default} | {field.get('description', '')} |".replace("|  |", "| |")
    yield ""


def _plain(text: str | None) -> str:
    """A docstring as Markdown, a line a paragraph."""
    paragraphs = (text or "").replace("``", "`").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
