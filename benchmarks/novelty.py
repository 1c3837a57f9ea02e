"""Measure what a checkpoint calls unfamiliar: the share of each folder's files whose answer has that notice.

``python -m benchmarks.novelty CHECKPOINT FOLDER...`` answers every picture (sound, video, text) of each folder by the
pipeline that serves, and prints a Markdown table with 95 % bootstrap intervals. Files that are no medium of the
checkpoint's are counted and left out.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.media import MediaError
from models.pipeline import UNFAMILIAR, Pipeline
from models.training.markdown import table
from models.training.metrics.intervals import bootstrap
from models.training.progress import progress


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    arguments.add_argument("--part", default="image", help="what the files are posted as")
    chosen = arguments.parse_args()
    pipeline = Pipeline.load(chosen.checkpoint)
    rows = []
    for folder in chosen.folders:
        new, skipped = unfamiliar(pipeline, folder, chosen.part)
        if not new:
            raise SystemExit(f"{folder} has no {chosen.part} that can be read: name another folder.")
        rows.append([folder.name, str(len(new)), _share(np.array(new)), str(skipped)])
    print(table(["", "files", "unfamiliar, %", "not read"], rows))


def _share(new: NDArray[np.bool_]) -> str:
    low, high = bootstrap(lambda places: np.array([100 * new[places].mean()]), len(new))
    return f"{100 * new.mean():.1f} ({low[0]:.1f} to {high[0]:.1f})"


def unfamiliar(pipeline: Pipeline, folder: Path, part: str) -> tuple[list[bool], int]:
    """Whether each file of a folder is unfamiliar, and how many could not be read."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    new, skipped = [], 0
    with progress(folder.name, total=len(files)) as advance:
        for path in files:
            try:
                data = path.read_text(encoding="utf-8") if part == "text" else path.read_bytes()
                notices = pipeline.answer({part: data}).notices or {}  # type: ignore[dict-item]
            except (MediaError, UnicodeDecodeError):
                skipped += 1
            else:
                new.append(UNFAMILIAR in notices.get(part, []))
            advance()
    return new, skipped


if __name__ == "__main__":
    main()
