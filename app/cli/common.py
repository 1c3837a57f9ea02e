"""What commands share: options, settings, checkpoints, and how they end when they cannot go on."""

import importlib
import sys
from collections.abc import Container
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


def settings_of(**given: Any) -> "Settings":
    """The settings of the environment, and in place of them those options that were ``given``."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from app.settings import Settings

    options = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**options)
    except ValidationError as error:
        fail("\n".join(_wrong(found, options) for found in error.errors()))
    except SettingsError as error:
        # Where a group's one variable is given whole, which is read as JSON; the message names the group in quotes.
        group = "FUSIONRNN_" + str(error).split('"')[1].upper()
        fail(f"{group}: not JSON. Set what is in it one by one, as in {group}__NAME; `fusionrnn settings` lists them.")


def _wrong(found: Any, options: Container[str]) -> str:
    """What is wrong with a setting, under the name by which the person knows it."""
    places = [str(part) for part in found["loc"] if not isinstance(part, int)]
    option = "--" + places[0].replace("_", "-")
    variable = "FUSIONRNN_" + "__".join(places).upper()
    return f"{option if places[0] in options else variable}: {found['msg'].removeprefix('Value error, ')}"


def import_plugins() -> None:
    """A user's own parts register themselves when their modules are imported."""

    for plugin in settings_of().plugins:
        try:
            importlib.import_module(plugin)
        # Foreign code, which may raise anything.
        except Exception as error:  # noqa: BLE001
            fail(f"FUSIONRNN_PLUGINS: {plugin} cannot be imported: {error!r}")


def find(model: str, settings: "Settings") -> Path:
    from app.engine.registry import find_checkpoint

    folder = find_checkpoint(model, settings.model_dir)
    if folder is None:
        if Path(model).is_dir():
            # Whoever loads it says what it lacks, and where that may be.
            return Path(model)
        fail(f"There is no checkpoint '{model}' in {', '.join(map(str, settings.model_dir))}.")
    return folder


def load(folder: Path, device: str | None) -> "Pipeline":
    """The checkpoint in ``folder``, with the plugins that its network may need."""
    from models.checkpoint import CheckpointError
    from models.device import choose_device
    from models.pipeline import Pipeline

    import_plugins()
    try:
        return Pipeline.load(folder, choose_device(device or "auto"), settings_of().runtime)
    except CheckpointError as error:
        fail(f"{folder}: {error.reason}")
    except ValueError as error:
        fail(str(error))
    # The network may be a user's own, which may raise anything.
    except Exception as error:  # noqa: BLE001
        fail(f"{folder}: {error!r}")


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
