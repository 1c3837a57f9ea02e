"""``listen``: words as they come."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import Device, ModelDir, Options, Url, address, fail, find, load, pair, settings_of, told


def listen(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="Sound, or none: the microphone.")
    ] = None,
    model: Annotated[str, typer.Option(help="A checkpoint that streams.")] = "voice-commands",
    realtime: Annotated[bool, typer.Option("--realtime", help="Send a file as fast as it would be spoken.")] = False,
    option: Options = None,
    url: Url = None,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Print the words of a microphone, or a file, as they come."""
    from pydantic import ValidationError

    from app.errors import from_validation
    from app.listen import CannotListen, file_sound, line, listen_here, listen_there, microphone
    from models.media.errors import MediaError
    from models.streaming.errors import CannotStream

    settings = settings_of(model_dir=model_dir, device=device)
    options = dict(pair(item) for item in option or [])
    sound = microphone() if file is None else file_sound(file, settings.limits, realtime=realtime)
    try:
        if url is None:
            events = listen_here(load(find(model, settings), settings.device), sound, options)
        else:
            events = listen_there(address(url), model, sound, options)
        for event in events:
            if (said := line(event)) is not None:
                typer.echo(said)
    except (CannotListen, CannotStream, MediaError) as error:
        fail(str(error))
    except ValidationError as error:
        fail(told(from_validation(error, [], "docs/streaming.md").body()))
    except KeyboardInterrupt:
        typer.echo("")
