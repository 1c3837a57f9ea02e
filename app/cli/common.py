"""What commands share: options, settings, checkpoints, and how they end when they cannot go on."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from app.settings import Settings
    from models.pipeline import Pipeline

Files = Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False)]
ModelDir = Annotated[
    list[Path] | None, typer.Option(help="Folder of checkpoint folders; repeatable. Default: the shipped ones.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
Options = Annotated[list[str] | None, typer.Option("--option", "-o", help="name=value, as /docs lists them.")]
Url = Annotated[str | None, typer.Option(help="Ask the server there instead of loading the checkpoint.")]


def settings_of(**given: Any) -> Any:
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        fail(str(error))


def import_plugins() -> None:
    """A user's own parts register themselves when their modules are imported."""

    for plugin in settings_of().plugins:
        importlib.import_module(plugin)


def find(model: str, settings: "Settings") -> Path:
    from app.engine.registry import find_checkpoint

    folder = find_checkpoint(model, settings.model_dir)
    if folder is None:
        fail(f"There is no checkpoint '{model}' in {', '.join(map(str, settings.model_dir))}.")
    return folder


def load(folder: Path, device: str | None) -> "Pipeline":
    from app.engine.registry import choose_device
    from models.checkpoint import CheckpointError
    from models.pipeline import Pipeline

    try:
        return Pipeline.load(folder, choose_device(device or "auto"), settings_of().runtime)
    except CheckpointError as error:
        fail(f"{folder}: {error.reason}")
    except ValueError as error:
        fail(str(error))


def address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        fail(f"'{url}' is not an http:// or https:// address.")
    return url


def pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not (name and equals):
        fail(f"'{item}' is not name=value.")
    return name, value


def told(problem: dict[str, Any]) -> str:
    return " ".join(str(problem[key]) for key in ("detail", "remedy") if key in problem)


def fail(said: str) -> NoReturn:
    typer.echo(said, err=True)
    sys.exit(1)
