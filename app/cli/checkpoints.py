"""``models``: what checkpoint folders hold."""

from pathlib import Path

import typer

from app.cli.common import Device, ModelDir, fail, load, settings_of


def list_models(model_dir: ModelDir = None) -> None:
    """List the checkpoint folders that would be served, without loading them."""
    from app.engine.registry import checkpoint_folders
    from models.checkpoint import CheckpointError, described
    from models.refusals import printable

    for root in settings_of(model_dir=model_dir).model_dir:
        if not root.is_dir():
            typer.echo(f"{root}: no such folder")
            continue
        folders, others = checkpoint_folders(root)
        for folder in others:
            typer.echo(f"{folder.name}: not a checkpoint: it has no config.json that can be read  {folder}")
        for folder in folders:
            try:
                config = described(folder)
                typer.echo(printable(f"{config['name']}  {config['version']}  {config['task']}  {folder}"))
            except (CheckpointError, KeyError) as error:
                typer.echo(f"{folder.name}: not a checkpoint: {error!r}  {folder}")


def verify(folder: Path, device: Device = "cpu") -> None:
    """Load a checkpoint folder as the server would, run it, and check that what else is in a batch changes nothing.

    Exits with 1 and the reason if one of these fails.
    """
    from models.invariance import faults

    pipeline = load(folder, device)
    try:
        pipeline.warm_up()
    # The folder may hold a user's own network, which may raise anything.
    except Exception as error:  # noqa: BLE001
        fail(f"{folder}: loads, but does not run: {error!r}")
    if found := list(faults(pipeline)):
        fail("\n".join([f"{folder}: loads and runs, but answers depend on what else is in a batch:", *found]))
    config = pipeline.config
    shown = {
        "name": config.name,
        "version": config.version,
        "task": config.task,
        "parameters": f"{pipeline.parameters:,}",
        "digest": pipeline.digest,
    }
    for key, value in shown.items():
        typer.echo(f"{key:<11} {value}")
