"""``manifest``, ``train``, ``evaluate``, ``novelty`` and ``study``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.common import ModelDir, fail, find, import_plugins, pair, settings_of


def manifest(
    data: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder with one subfolder a class.")],
    share: Annotated[float, typer.Option(min=0.01, max=0.9, help="Part of each class that is kept for val.")] = 0.2,
    table: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="CSV or TSV file that says what the files are, a row each."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="field=name of the table's column, such as label=category; repeatable.")
    ] = None,
) -> None:
    """List a folder of files, sorted into classes or described by a table, in train.jsonl and val.jsonl."""
    from models.training.folders import write_manifests
    from models.training.manifest import DataError
    from models.training.table import write_table

    if column and table is None:
        fail("--column names a column of a --table.")
    try:
        if table is None:
            written = write_manifests(data, share=share)
        else:
            written = write_table(table, data, dict(pair(item) for item in column or ()), share=share)
    except DataError as error:
        fail(str(error))
    except OSError as error:
        fail(
            f"{error.filename or data} cannot be read or written ({error.strerror or error}): mend that, and try again"
        )
    counts = ", ".join(f"{count} in {name}.jsonl" for name, count in written.examples.items())
    typer.echo(f"{data}: {sum(written.examples.values())} examples, {counts}")
    for said in written.odd:
        typer.echo(said, err=True)
    if written.ignored:
        typer.echo(f"No medium: {', '.join(written.ignored[:10])}", err=True)
    if written.empty:
        typer.echo(f"Left out, as empty: {', '.join(written.empty[:10])}", err=True)


def train(
    recipe: Annotated[str, typer.Argument(help="An experiment (a .toml file), or the name of a shipped recipe.")],
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Folder with train.jsonl and val.jsonl.")],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint; a run that was killed goes on there.")],
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Of everything random, instead of the experiment's.")
    ] = None,
    start: Annotated[
        list[str] | None,
        typer.Option(help="Checkpoint to go on from, by its name or folder; repeatable. For an experiment."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also train each modality alone, and measure the constant answer.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; for an experiment, as recipes use the CPU.")] = "cpu",
) -> None:
    """Train a checkpoint on your own data, as docs/train-your-own.md explains, or by a shipped recipe."""
    from models.training import TRAINING_ERRORS, cli_train

    import_plugins()
    folders = [find(name, settings_of()) for name in start or ()]
    try:
        cli_train(recipe, data, out, seed, start=folders, baselines=baselines, device=device)
    except TRAINING_ERRORS as error:
        fail(str(error))
    checkpoint = out / "checkpoint"
    if checkpoint.is_dir():
        typer.echo(f"Trained {checkpoint}. Serve it: fusionrnn serve --model-dir {checkpoint}")


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
    save: Annotated[
        bool, typer.Option("--save", help="Also write the figures into metrics.json, beside what stands there.")
    ] = False,
    model_dir: ModelDir = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; with --all it is the CPU.")] = "cpu",
) -> None:
    """Measure a checkpoint on a data set and print the figures; or all shipped ones, beside those they came with."""
    from models.training import TRAINING_ERRORS, cli_evaluate

    if every == (checkpoint is not None):
        fail("Name one checkpoint folder, or give --all.")
    if every and save:
        fail("--all only prints: give --save with one checkpoint folder.")
    import_plugins()
    try:
        if checkpoint is None:
            _print_all(data, settings_of(model_dir=model_dir).model_dir)
        else:
            found = cli_evaluate(checkpoint, data, split, target, save=save, device=device)
            typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
    except TRAINING_ERRORS as error:
        fail(str(error))


def _print_all(data: Path, roots: list[Path]) -> None:
    """A line a figure: the checkpoint, the figure, what its metrics.json says, and what was measured now."""
    from tempfile import TemporaryDirectory

    from app.engine.registry import checkpoint_folders
    from models.training import cli_evaluate_all

    differing = 0
    with TemporaryDirectory(prefix="fusionrnn-") as cache:
        folders = [folder for root in roots for folder in checkpoint_folders(root)[0]]
        for line in cli_evaluate_all(folders, data, Path(cache)):
            differing += line.differs()
            said = "made in training" if line.measured is None else line.measured
            mark = "  <- differs" if line.differs() else ""
            typer.echo(f"{line.checkpoint}\t{line.figure}\t{line.recorded}\t{said}{mark}")
    typer.echo(f"{differing} figures differ from metrics.json.", err=True)


def novelty(
    checkpoint: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    data: Annotated[
        list[Path], typer.Option(exists=True, file_okay=False, help="Folder that it was trained on; repeatable.")
    ],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
) -> None:
    """Let a checkpoint's answers tell what is unlike its training data, as those of an experiment do by themselves."""
    from models.training import TRAINING_ERRORS, cli_novelty

    import_plugins()
    try:
        known = cli_novelty(checkpoint, data, device)
    except TRAINING_ERRORS as error:
        fail(str(error))
    typer.echo(f"{checkpoint}: learned from " + ", ".join(f"{count} of {name}" for name, count in known.items()))


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
        fail(str(error))
