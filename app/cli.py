"""The command ``fusionrnn``. Every import that takes time stands inside the command that needs it."""

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from app.engine.service import Service
    from app.search.moments import Annotator
    from app.settings import Settings
    from models.pipeline import Pipeline

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
models = typer.Typer(no_args_is_help=True, help="Look at checkpoint folders.")
app.add_typer(models, name="models")

Files = Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False)]
ModelDir = Annotated[
    list[Path] | None, typer.Option(help="Folder of checkpoint folders; repeatable. Default: the shipped ones.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
_HTTP_SECONDS = 300


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port; 0 takes a free one.")] = None,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Serve the checkpoints over HTTP. FUSIONRNN_* variables set everything else."""
    settings = _settings(host=host, port=port, model_dir=model_dir, device=device)
    if settings.workers > 1:
        from app.workers import Workers

        Workers(settings, typer.echo).run()
        return
    from app.server import Server

    Server(settings, _announce).run()


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Name of a checkpoint, or a checkpoint folder.")],
    image: Files = None,
    video: Files = None,
    audio: Files = None,
    text: Annotated[list[str] | None, typer.Option()] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="name=value, as /docs lists them.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what the network looked at.")] = False,
    url: Annotated[str | None, typer.Option(help="Ask the server there instead of loading the checkpoint.")] = None,
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
    options = dict(_pair(item) for item in option or [])
    if not bundle:
        _fail("Nothing to predict from: give --image, --video, --audio or --text.")
    if url is None:
        answer = _predict_here(model, bundle, options, explain, model_dir, device)
    else:
        answer = _predict_there(url, model, bundle, options, explain)
    typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))


@app.command()
def listen(
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="Sound, or none: the microphone.")
    ] = None,
    model: Annotated[str, typer.Option(help="A checkpoint that streams.")] = "voice-commands",
    realtime: Annotated[bool, typer.Option("--realtime", help="Send a file as fast as it would be spoken.")] = False,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="name=value, such as threshold=0.8")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Ask the server there instead of loading the checkpoint.")] = None,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Print the words of a microphone, or a file, as they come."""
    from pydantic import ValidationError

    from app.errors import from_validation
    from app.listen import CannotListen, file_sound, line, listen_here, listen_there, microphone
    from models.media.errors import MediaError
    from models.streaming.errors import CannotStream

    settings = _settings(model_dir=model_dir, device=device)
    options = dict(_pair(item) for item in option or [])
    sound = microphone() if file is None else file_sound(file, settings.limits, realtime=realtime)
    try:
        if url is None:
            events = listen_here(_load(_find(model, settings), settings.device), sound, options)
        else:
            events = listen_there(_address(url), model, sound, options)
        for event in events:
            if (said := line(event)) is not None:
                typer.echo(said)
    except (CannotListen, CannotStream, MediaError) as error:
        _fail(str(error))
    except ValidationError as error:
        _fail(_told(from_validation(error, []).body()))
    except KeyboardInterrupt:
        typer.echo("")


@models.command("list")
def list_models(model_dir: ModelDir = None) -> None:
    """List the checkpoint folders that would be served, without loading them."""
    from app.engine.registry import checkpoint_folders

    for root in _settings(model_dir=model_dir).model_dir:
        if not root.is_dir():
            typer.echo(f"{root}: no such folder")
            continue
        for folder in checkpoint_folders(root):
            try:
                config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
                typer.echo(f"{config['name']}  {config['version']}  {config['task']}  {folder}")
            except (OSError, ValueError, KeyError, TypeError) as error:
                typer.echo(f"{folder.name}: not a checkpoint: {error!r}  {folder}")


@models.command()
def verify(folder: Path, device: Device = "cpu") -> None:
    """Load a checkpoint folder as the server would and run it once; exit with 1 and the reason if that fails."""
    pipeline = _load(folder, device)
    try:
        pipeline.warm_up()
    # The folder may hold a user's own network, which may raise anything.
    except Exception as error:  # noqa: BLE001
        _fail(f"{folder}: loads, but does not run: {error!r}")
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


@app.command()
def manifest(
    data: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder with one subfolder a class.")],
    share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Part of each class that is kept for val.")] = 0.2,
) -> None:
    """List a folder of files, sorted into classes, in train.jsonl and val.jsonl. Files of one name are one example."""
    from models.training.folders import write_manifests
    from models.training.manifest import DataError

    try:
        written = write_manifests(data, share=share)
    except DataError as error:
        _fail(str(error))
    typer.echo(f"{data}: {written.train} examples in train.jsonl, {written.val} in val.jsonl")
    if written.ignored:
        typer.echo(f"No medium: {', '.join(written.ignored[:10])}", err=True)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="An experiment (a .toml file), or the name of a shipped recipe.")],
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder with train.jsonl and val.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; a run that was killed goes on there.")],
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything random, instead of the experiment's.")] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also train each modality alone, and measure the constant answer.")
    ] = False,
) -> None:
    """Train a checkpoint on your own data, as docs/train-your-own.md explains, or by a shipped recipe."""
    from models.training import TRAINING_ERRORS, cli_train

    _import_plugins()
    try:
        cli_train(recipe, data, out, seed, baselines=baselines)
    except TRAINING_ERRORS as error:
        _fail(str(error))
    checkpoint = out / "checkpoint"
    if checkpoint.is_dir():
        typer.echo(f"Trained {checkpoint}. Serve it: fusionrnn serve --model-dir {checkpoint}")


@app.command()
def evaluate(
    data: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="Folder of the data set; with --all, of all of them.")
    ],
    checkpoint: Annotated[Path | None, typer.Argument(exists=True, file_okay=False)] = None,
    split: Annotated[str, typer.Option(help="Part of the data set.")] = "val",
    target: Annotated[str | None, typer.Option(help="Field of the target, if not the one trained on.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Measure all shipped checkpoints again, beside the figures they came with.")
    ] = False,
    model_dir: ModelDir = None,
) -> None:
    """Measure a checkpoint on a data set, and write the figures into its metrics.json; or all, and only print."""
    from models.training import TRAINING_ERRORS, cli_evaluate

    if every == (checkpoint is not None):
        _fail("Name one checkpoint folder, or give --all.")
    _import_plugins()
    try:
        if checkpoint is None:
            _print_all(data, _settings(model_dir=model_dir).model_dir)
        else:
            typer.echo(json.dumps(cli_evaluate(checkpoint, data, split, target), ensure_ascii=False, indent=2))
    except TRAINING_ERRORS as error:
        _fail(str(error))


def _print_all(data: Path, roots: list[Path]) -> None:
    """A line a figure: the checkpoint, the figure, what its metrics.json says, and what was measured now."""
    from tempfile import TemporaryDirectory

    from app.engine.registry import checkpoint_folders
    from models.training import cli_evaluate_all

    differing = 0
    with TemporaryDirectory(prefix="fusionrnn-") as cache:
        folders = [folder for root in roots for folder in checkpoint_folders(root)]
        for line in cli_evaluate_all(folders, data, Path(cache)):
            differing += line.differs()
            said = "cross-validated in training" if line.measured is None else line.measured
            mark = "  <- differs" if line.differs() else ""
            typer.echo(f"{line.checkpoint}\t{line.figure}\t{line.recorded}\t{said}{mark}")
    typer.echo(f"{differing} figures differ from metrics.json.", err=True)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="gradients, missing-modality or mosi.")],
    out: Annotated[Path, typer.Option(help="Folder for the page; a study that was killed goes on there.")],
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder of the CMU-MOSI features; gradients needs none."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="How many times everything is trained.")] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Try the way from data to page; the figures mean nothing.")
    ] = False,
) -> None:
    """Measure what is claimed of the library, and write a page with its tables and pictures."""
    from models.training import TRAINING_ERRORS
    from models.training.studies import run_study

    try:
        typer.echo(f"Wrote {run_study(name, data, out, seeds=seeds, quick=quick)}")
    except TRAINING_ERRORS as error:
        _fail(str(error))


@app.command()
def index(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Photos and videos, also in subfolders.")
    ],
    out: Annotated[Path, typer.Option(help="File of the index; one that is there is brought up to date.")],
    model: Annotated[str, typer.Option(help="Checkpoint that embeds images and text.")] = "image-text-embedding",
    captioner: Annotated[str, typer.Option(help="Checkpoint that captions; empty for no captions.")] = "captioner",
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Caption and embed every photo, and every second of every video, of a folder, for `fusionrnn search`."""
    from app.search.folder import photos_and_videos, update
    from app.search.index import FolderIndex, IndexFault
    from models.training.progress import progress

    settings = _settings(model_dir=model_dir, device=device)
    annotator = _annotator(settings, model, captioner)
    files = photos_and_videos(folder)
    try:
        with FolderIndex(
            out, model=annotator.model, size=annotator.size, folder=folder.resolve(), captioner=annotator.writer
        ) as opened:
            with progress("index", total=len(files)) as advance:
                done = update(opened, folder, files, annotator, settings.limits, advance)
            count = len(opened)
    except IndexFault as error:
        _fail(str(error))
    for path, reason in done.skipped.items():
        typer.echo(f"Skipped {path}: {reason}", err=True)
    told = f"{done.added} looked at, {done.unchanged} unchanged, {done.removed} removed, {len(done.skipped)} skipped"
    typer.echo(f"{out}: {told}; {count} photos and seconds of video")


@app.command()
def search(
    index: Annotated[Path, typer.Argument(help="File that `fusionrnn index` made.")],
    text: Annotated[str | None, typer.Argument(help="What to look for, in English or Chinese.")] = None,
    image: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Or a photo to look like.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most results.")] = 20,
    page: Annotated[Path, typer.Option(help="HTML page of thumbnails to write.")] = Path("search.html"),
    model: Annotated[str, typer.Option(help="Checkpoint that the index was made with.")] = "image-text-embedding",
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """List photos and places in videos that show what a text says, or look like a photo, nearest first."""
    from app.search.index import FolderIndex, IndexFault
    from app.search.moments import clock, thumbnail
    from app.search.page import render
    from models.media.errors import MediaError
    from models.media.image import decode_image

    if (text is None) == (image is None):
        _fail("Give a text to look for, or --image with a photo, one of the two.")
    settings = _settings(model_dir=model_dir, device=device)
    annotator = _annotator(settings, model, "")
    try:
        shown = None
        if image is None:
            question = annotator.query({"text": [text or ""]}, settings.limits)
        else:
            data = image.read_bytes()
            question = annotator.query({"image": [data]}, settings.limits)
            shown = thumbnail(decode_image(data, settings.limits))
        with FolderIndex(index, model=annotator.model, size=annotator.size) as opened:
            hits = opened.search(annotator.query_vector(question.answer()), limit)
            page.write_text(render(hits, opened.folder, text=text, thumbnail=shown), encoding="utf-8")
    except MediaError as error:
        _fail(str(error))
    except IndexFault as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{page} cannot be written: {error}")
    for hit in hits:
        place = "" if hit.seconds is None else clock(hit.seconds)
        typer.echo(f"{hit.score:6.3f}  {hit.path}  {place:<7} {next(iter(hit.captions.values()), '')}".rstrip())
    typer.echo(f"Thumbnails: {page}", err=True)


def main() -> None:
    """Entry point of the console script."""
    app()


def _announce(address: str, service: "Service") -> None:
    for failure in service.registry.failed:
        typer.echo(f"Not served: {failure.name}: {failure.reason}", err=True)
    typer.echo(f"Serving {', '.join(sorted(service.registry.pipelines)) or 'no model'}. Try it at {address}/docs")


def _settings(**given: Any) -> Any:
    from pydantic import ValidationError

    from app.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        _fail(str(error))


def _import_plugins() -> None:
    """A user's own parts register themselves when their modules are imported."""
    import importlib

    for plugin in _settings().plugins:
        importlib.import_module(plugin)


def _find(model: str, settings: "Settings") -> Path:
    from app.engine.registry import find_checkpoint

    folder = find_checkpoint(model, settings.model_dir)
    if folder is None:
        _fail(f"There is no checkpoint '{model}' in {', '.join(map(str, settings.model_dir))}.")
    return folder


def _annotator(settings: "Settings", model: str, captioner: str) -> "Annotator":
    """The named checkpoints, loaded; no captioner where its name is empty."""
    from app.search.moments import Annotator

    _import_plugins()
    embedder = _load(_find(model, settings), settings.device)
    writer = _load(_find(captioner, settings), settings.device) if captioner else None
    try:
        return Annotator(embedder, writer)
    except ValueError as error:
        _fail(str(error))


def _load(folder: Path, device: str | None) -> "Pipeline":
    from app.engine.registry import choose_device
    from models.checkpoint import CheckpointError
    from models.pipeline import Pipeline

    try:
        return Pipeline.load(folder, choose_device(device or "auto"), _settings().runtime)
    except CheckpointError as error:
        _fail(f"{folder}: {error.reason}")
    except ValueError as error:
        _fail(str(error))


def _predict_here(
    model: str,
    bundle: dict[str, list[Any]],
    options: dict[str, str],
    explain: bool,
    model_dir: list[Path] | None,
    device: str | None,
) -> dict[str, Any]:
    import importlib

    from pydantic import ValidationError

    from app.api.parts import Rules, check_parts
    from app.errors import ServiceError, from_media, from_validation
    from models.media.errors import MediaError

    settings = _settings(model_dir=model_dir, device=device)
    for plugin in settings.plugins:
        importlib.import_module(plugin)
    pipeline = _load(_find(model, settings), settings.device)
    rules = Rules.of(pipeline, settings.limits, settings.max_request_bytes)
    try:
        posted = check_parts(bundle, rules)
        decoded = pipeline.decode(posted.bundle, settings.limits)
        result = pipeline.predict(pipeline.features(decoded), pipeline.options.model_validate(options), explain=explain)
    except MediaError as error:
        _fail(_told(from_media(error).body()))
    except ValidationError as error:
        _fail(_told(from_validation(error, rules.known).body()))
    except ServiceError as error:
        _fail(_told(error.body()))
    config = pipeline.config
    head = {"model": config.name, "version": config.version, "task": config.task}
    return head | result.model_dump(exclude_none=True)


def _predict_there(
    url: str, model: str, bundle: dict[str, list[Any]], options: dict[str, str], explain: bool
) -> dict[str, Any]:
    from urllib.error import HTTPError, URLError
    from urllib.parse import quote
    from urllib.request import Request, urlopen

    url = _address(url)
    encoded = {
        name: [item if isinstance(item, str) else base64.b64encode(item).decode() for item in items]
        for name, items in bundle.items()
    }
    body = json.dumps(encoded | options | ({"explain": True} if explain else {})).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    request = Request(f"{url.rstrip('/')}/v1/models/{quote(model, safe='')}/predict", body, headers)  # noqa: S310 - checked
    try:
        with urlopen(request, timeout=_HTTP_SECONDS) as answer:  # noqa: S310 - checked above
            value: dict[str, Any] = json.load(answer)
    except HTTPError as error:
        with error:
            try:
                problem = json.load(error)
            except ValueError:
                problem = {"title": f"HTTP status {error.code}", "detail": error.reason}
        _fail(_told(problem))
    except (URLError, OSError) as error:
        _fail(f"{url} does not answer: {error}")
    return value


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        _fail(f"'{url}' is not an http:// or https:// address.")
    return url


def _pair(item: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not (name and equals):
        _fail(f"'{item}' is not name=value.")
    return name, value


def _told(problem: dict[str, Any]) -> str:
    return " ".join(str(problem[key]) for key in ("detail", "remedy") if key in problem)


def _fail(said: str) -> NoReturn:
    typer.echo(said, err=True)
    sys.exit(1)
