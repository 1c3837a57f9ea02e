"""``index`` and ``search``: a folder of photos and videos."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.common import Device, ModelDir, fail, find, load, settings_of

if TYPE_CHECKING:
    from app.search.moments import Annotator
    from app.settings import Settings


def index(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Photos and videos, also in subfolders.")
    ],
    out: Annotated[Path, typer.Option(help="File of the index; one of the same folder is brought up to date.")],
    model: Annotated[str, typer.Option(help="Checkpoint that embeds images and text.")] = "image-text-embedding",
    captioner: Annotated[str, typer.Option(help="Checkpoint that captions; empty for no captions.")] = "captioner",
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Forget everything where the folder has become empty.")
    ] = False,
    model_dir: ModelDir = None,
    device: Device = None,
) -> None:
    """Caption and embed every photo, and every second of every video, of a folder, for `fusionrnn search`."""
    from app.search.folder import photos_and_videos, update
    from app.search.index import FolderIndex, IndexFault
    from models.training.progress import progress

    settings = settings_of(model_dir=model_dir, device=device)
    annotator = _annotator(settings, model, captioner)
    listing = photos_and_videos(folder)
    try:
        with FolderIndex(
            out, model=annotator.model, size=annotator.size, folder=folder.resolve(), captioner=annotator.writer
        ) as opened:
            with progress("index", total=len(listing.files)) as advance:
                done = update(opened, folder, listing, annotator, settings.limits, advance, may_empty=allow_empty)
            count = len(opened)
    except IndexFault as error:
        fail(str(error))
    for path, reason in done.skipped.items():
        typer.echo(f"Skipped {_printable(path)}: {reason}", err=True)
    if not listing.files:
        typer.echo(f"{folder} has no photos or videos.", err=True)
    told = f"{done.added} looked at, {done.unchanged} unchanged, {done.removed} removed, {len(done.skipped)} skipped"
    typer.echo(f"{_printable(out)}: {told}; {count} photos and seconds of video")


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
    from app.search.page import HEAD, render
    from models.media.errors import MediaError
    from models.media.image import decode_image

    if (text is None) == (image is None):
        fail("Give a text to look for, or --image with a photo, one of the two.")
    if page.is_file() and (there := _contents(page)) and not there.startswith(HEAD):
        fail(f"{page} is not a page of this command, and would be lost: give another --page.")
    settings = settings_of(model_dir=model_dir, device=device)
    annotator = _annotator(settings, model, "")
    try:
        shown = None
        if image is None:
            question = annotator.query({"text": [text or ""]}, settings.limits)
        else:
            data = _contents(image)
            question = annotator.query({"image": [data]}, settings.limits)
            shown = thumbnail(decode_image(data, settings.limits))
        with FolderIndex(index, model=annotator.model, size=annotator.size) as opened:
            answer = question.answer()
            hits = opened.search(annotator.query_vector(answer), limit)
            rendered = render(hits, opened.folder, text=text, thumbnail=shown)
    except MediaError as error:
        fail(str(error))
    except IndexFault as error:
        fail(str(error))
    try:
        _write(page, rendered)
    except OSError as error:
        fail(f"{page} cannot be written: {error}")
    for hit in hits:
        place = "" if hit.seconds is None else clock(hit.seconds)
        typer.echo(
            f"{hit.score:6.3f}  {_printable(hit.path)}  {place:<7} {next(iter(hit.captions.values()), '')}".rstrip()
        )
    for part, notices in (answer.notices or {}).items():
        typer.echo(f"Of the {part} that was asked for: {', '.join(notices)}.", err=True)
    if not hits:
        typer.echo(f"Nothing found: {index} is empty.", err=True)
    typer.echo(f"Thumbnails: {page}", err=True)


def _contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error}")


def _write(page: Path, text: str) -> None:
    """All of it or nothing, which the next run would take for somebody's file."""
    from models.files import write_whole

    # A pipe, or /dev/null, stays what it is.
    if page.exists() and not page.is_file():
        page.write_text(text, encoding="utf-8")
    else:
        write_whole(page.resolve(), text)


def _printable(path: object) -> str:
    """A file's name on one line, which nothing in it makes a terminal do."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in str(path))


def _annotator(settings: "Settings", model: str, captioner: str) -> "Annotator":
    """The named checkpoints, loaded; no captioner where its name is empty."""
    from app.search.moments import Annotator

    embedder = load(find(model, settings), settings.device)
    writer = load(find(captioner, settings), settings.device) if captioner else None
    try:
        return Annotator(embedder, writer)
    except ValueError as error:
        fail(str(error))
