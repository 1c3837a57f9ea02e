"""``serve``: the checkpoints over HTTP."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import Device, ModelDir, settings_of

if TYPE_CHECKING:
    from app.engine.service import Service


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Serve the checkpoints over HTTP. FUSIONRNN_* variables set everything else."""
    from app.log import log_all

    settings = settings_of(host=host, port=port, model_dir=model_dir, device=device)
    log_all()
    if settings.workers > 1:
        from app.workers import Workers

        if not Workers(settings, typer.echo).run():
            raise typer.Exit(1)
        return
    from app.server import Server

    Server(settings, _announce).run()


def _announce(address: str, service: "Service") -> None:
    typer.echo(f"Serving {', '.join(sorted(service.registry.pipelines)) or 'no model'}. Try it at {address}/docs")
