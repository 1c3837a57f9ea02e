"""``predict``: the answer to one bundle, here or from a server."""

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.common import (
    Device,
    Files,
    ModelDir,
    Options,
    Url,
    address,
    fail,
    find,
    load,
    pair,
    settings_of,
    told,
)

_HTTP_SECONDS = 300


def predict(
    model: Annotated[str, typer.Argument(help="Name of a checkpoint, or a checkpoint folder.")],
    image: Files = None,
    video: Files = None,
    audio: Files = None,
    text: Annotated[
        list[str] | None, typer.Option(help="The text itself; of a checkpoint that reads vectors as text, their file.")
    ] = None,
    option: Options = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what the network looked at.")] = False,
    url: Url = None,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Answer one bundle and print the answer as JSON."""
    files = {"image": image, "video": video, "audio": audio}
    bundle: dict[str, list[Any]] = {
        name: [path.read_bytes() for path in paths] for name, paths in files.items() if paths
    }
    if text:
        bundle["text"] = list(text)
    options = dict(pair(item) for item in option or [])
    if not bundle:
        fail("Nothing to predict from: give --image, --video, --audio or --text.")
    if url is None:
        answer = _predict_here(model, bundle, options, explain, model_dir, device)
    else:
        answer = _predict_there(url, model, bundle, options, explain)
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))


def _predict_here(
    model: str,
    bundle: dict[str, list[Any]],
    options: dict[str, str],
    explain: bool,
    model_dir: list[Path] | None,
    device: str | None,
) -> dict[str, Any]:
    from pydantic import ValidationError

    from app.api.rules import Rules, check_explain, check_parts
    from app.errors import ServiceError, from_media, from_validation
    from models.media.errors import MediaError

    settings = settings_of(model_dir=model_dir, device=device)
    pipeline = load(find(model, settings), settings.device)
    if "text" in bundle and "text" in pipeline.accepts and not pipeline.is_written("text"):
        bundle = bundle | {"text": _files(bundle["text"])}
    rules = Rules.of(pipeline, settings.limits, settings.max_request_bytes)
    try:
        posted = check_parts(bundle, rules)
        check_explain(pipeline, explain)
        decoded = pipeline.decode(posted.bundle, settings.limits)
        result = pipeline.predict(pipeline.features(decoded), pipeline.options.model_validate(options), explain=explain)
    except MediaError as error:
        fail(told(from_media(error).body()))
    except ValidationError as error:
        fail(told(from_validation(error, rules.known).body()))
    except ServiceError as error:
        fail(told(error.body()))
    # The network may be a user's own, which may raise anything.
    except Exception as error:  # noqa: BLE001
        fail(f"{model} does not run: {error!r}")
    config = pipeline.config
    head = {"model": config.name, "version": config.version, "task": config.task}
    return head | result.model_dump(exclude_none=True)


def _files(names: list[str]) -> list[bytes]:
    """The files that the values of --text name, where the checkpoint's text is no string."""
    try:
        return [Path(name).read_bytes() for name in names]
    except (OSError, ValueError) as error:
        fail(f"--text: this checkpoint reads vectors as text, so give the name of their .npy file: {error}")


def _predict_there(
    url: str, model: str, bundle: dict[str, list[Any]], options: dict[str, str], explain: bool
) -> dict[str, Any]:
    from urllib.parse import quote

    place = f"{address(url).rstrip('/')}/v1/models/{quote(model, safe='')}"
    if "text" in bundle:
        # Of what is written the card bounds the characters, of vectors only the bytes.
        takes = _asked(place)["modalities"].get("text")
        if takes is not None and "characters" not in takes["limits"]:
            bundle = bundle | {"text": _files(bundle["text"])}
    encoded = {
        name: [item if isinstance(item, str) else base64.b64encode(item).decode() for item in items]
        for name, items in bundle.items()
    }
    return _asked(f"{place}/predict", encoded | options | ({"explain": True} if explain else {}))


def _asked(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The server's answer to a JSON body, or to none."""
    from urllib.error import HTTPError, URLError
    from urllib.parse import unquote, urlsplit
    from urllib.request import Request, urlopen

    place = urlsplit(url)
    # As curl reads it: NAME:PASSWORD@ before the host is for a proxy that asks for them.
    who, _, host = place.netloc.rpartition("@")
    url = place._replace(netloc=host).geturl()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if who:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(who).encode()).decode()}"
    request = Request(url, None if body is None else json.dumps(body).encode(), headers)  # noqa: S310 - checked
    try:
        with urlopen(request, timeout=_HTTP_SECONDS) as answer:  # noqa: S310 - checked
            value: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        with error:
            try:
                problem = json.load(error)
            except ValueError:
                problem = {"title": f"HTTP status {error.code}", "detail": error.reason}
        fail(told(problem))
    except (URLError, OSError) as error:
        fail(f"{place.scheme}://{host} does not answer: {error}")
    return value
