"""The command ``fusionrnn``. Every import that takes time stands inside the command that needs it."""

from typing import Annotated

import typer

from app.cli import checkpoints
from app.cli.configuring import settings, show_version
from app.cli.listening import listen
from app.cli.parts import parts
from app.cli.predicting import predict
from app.cli.searching import index, search
from app.cli.serving import serve
from app.cli.training import evaluate, manifest, novelty, study, train

_HELP = "Serve, train, measure and search with multimodal recurrent networks."

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=_HELP)
for command in (serve, predict, listen, manifest, train, evaluate, novelty, study, index, search, settings):
    app.command()(command)
models = typer.Typer(no_args_is_help=True, help="Look at checkpoint folders, and at what networks are made of.")
models.command("list")(checkpoints.list_models)
models.command()(checkpoints.verify)
models.command()(parts)
app.add_typer(models, name="models")


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=show_version, help="Print the version and end.")
    ] = False,
) -> None:
    """Options that stand before any command."""


def main() -> None:
    """Entry point of the console script."""
    app()
