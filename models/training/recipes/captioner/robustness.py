"""What is left of a photo checkpoint's figures where photos are dark, blurred, turned or framed: a table in Markdown.

``python -m models.training.recipes.captioner.robustness CHECKPOINT --data FOLDER`` spoils each validation photo in one
way at a time, saves it as a JPEG as a client would post it, and scores the checkpoint on these photos by
``fusionrnn evaluate``. How much of a way there is, is fixed here, and not drawn as in training (`views.py`).
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from models.checkpoint import CheckpointError
from models.training.evaluation import evaluate
from models.training.manifest import DataError, read_manifest
from models.training.markdown import table
from models.training.progress import progress

_SIZE = (500, 375)


def _noisy(photo: Image.Image) -> Image.Image:
    values = np.asarray(photo, np.float32)
    values += 40 * np.random.default_rng(0).standard_normal(values.shape, np.float32)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _slanted(photo: Image.Image) -> Image.Image:
    """By 15 degrees, cut to four fifths, so that hardly a corner is empty."""
    width, height = photo.size
    turned = photo.rotate(15, Image.Resampling.BICUBIC)
    return turned.crop((width // 10, height // 10, width - width // 10, height - height // 10))


def _screenshot(photo: Image.Image) -> Image.Image:
    """A telephone's screen, the photo across it, a coloured bar and writing above, writing below."""
    screen = Image.new("RGB", (1080, 2160), (250, 250, 250))
    pen = ImageDraw.Draw(screen)
    pen.rectangle((0, 0, 1080, 120), (60, 90, 160))
    pen.text((40, 40), "12:34   Photos   Edit", "white", font_size=40)
    screen.paste(photo.resize((1080, 810)), (0, 500))
    for line in range(12):
        pen.text((40, 1400 + 45 * line), "the quick brown fox jumps over the lazy dog " * 2, "black", font_size=26)
    return screen


def _printed_over(photo: Image.Image) -> Image.Image:
    photo = photo.copy()
    pen = ImageDraw.Draw(photo)
    for height, words in ((10, "WHEN YOU SEE IT"), (320, "EVERY TIME")):
        pen.text((250, height), words, "white", font_size=40, anchor="ma", stroke_width=3, stroke_fill="black")
    return photo


WAYS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "as it is": lambda photo: photo,
    "dark, 0.3 of the light": lambda photo: ImageEnhance.Brightness(photo).enhance(0.3),
    "grey": lambda photo: photo.convert("L").convert("RGB"),
    "out of focus, 6 pixels of 375": lambda photo: photo.filter(ImageFilter.GaussianBlur(6)),
    "noise of 40 levels": _noisy,
    "thumbnail of 64 x 48": lambda photo: photo.resize((64, 48)),
    "slanted by 15 degrees": _slanted,
    "on its side, no EXIF tag": lambda photo: photo.transpose(Image.Transpose.ROTATE_90),
    "screenshot of a telephone": _screenshot,
    "words across it": _printed_over,
}
"""How photos of 500 x 375 are spoilt, by what the table calls it; all are JPEGs of quality 90 then."""


def measured(checkpoint: Path, data: Path, most: int) -> dict[str, dict[str, Any]]:
    """The figures of ``fusionrnn evaluate`` on the first ``most`` validation photos, by way.

    Raises:
        CheckpointError: the folder is not a usable checkpoint.
        DataError: the data are not photos with captions.
    """
    manifest = read_manifest(data, "val", media=("image",))
    examples = manifest.examples[:most]
    found = {}
    with tempfile.TemporaryDirectory() as name, progress("ways", total=len(WAYS)) as advance:
        folder = Path(name)
        lines = [json.dumps({**example, "image": f"{row}.jpg"}) for row, example in enumerate(examples)]
        (folder / "val.jsonl").write_text("\n".join(lines), encoding="utf-8")
        for way, spoil in WAYS.items():
            for row, example in enumerate(examples):
                with Image.open(manifest.path(example, "image")) as photo:
                    plain = photo.convert("RGB").resize(_SIZE, Image.Resampling.BICUBIC)
                spoil(plain).save(folder / f"{row}.jpg", quality=90)
            found[way] = evaluate(checkpoint, folder, "val", "captions")["figures"]
            advance()
    return found


def as_table(found: dict[str, dict[str, Any]]) -> str:
    """A row a way: each direction's recall at 10, or each search's CIDEr-D."""
    first = next(iter(found.values()))
    metric = "recall_at_10" if "recall_at_10" in next(iter(first.values())) else "cider_d"
    rows = [[way, *(_interval(values[metric]) for values in each.values())] for way, each in found.items()]
    return table(["photo", *first], rows)


def _interval(bounds: Sequence[float]) -> str:
    return "{:.1f} ({:.1f}–{:.1f})".format(*bounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path, help="folder of a captioner or an image-text embedding")
    parser.add_argument("--data", type=Path, required=True, help="folder with val.jsonl: photos, captions by language")
    parser.add_argument("--photos", type=int, default=1000, help="how many of its photos, 1000 if missing")
    given = parser.parse_args(arguments)
    try:
        print(as_table(measured(given.checkpoint, given.data, given.photos)))
    except (CheckpointError, DataError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
