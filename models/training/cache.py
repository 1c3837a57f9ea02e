"""Features computed once and kept on disk as one fp16 array, so that epochs read instead of decode."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.files import write_whole
from models.training.manifest import DataError
from models.training.progress import progress

FeatureArray = NDArray[np.float16]
_MOST = float(np.finfo(np.float16).max)


def cached_features(
    folder: Path,
    key: dict[str, Any],
    shape: tuple[int, ...],
    compute: Callable[[int], Iterator[NDArray[np.float32]]],
    *,
    label: str,
) -> FeatureArray:
    """Array of ``shape``, read from ``folder`` or computed row by row and kept there.

    Args:
        key: all that the features depend on; another key is another file.
        compute: given the first row that is missing, yields this and the following rows. A killed run goes on from
            its last whole row.

    Raises:
        DataError: a feature is beyond what fp16 holds, or no finite number.
        OSError: the file cannot be written, as where the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([key, shape], sort_keys=True, default=str).encode()).hexdigest()[:16]
    path, marker = folder / f"{label}-{digest}.npy", folder / f"{label}-{digest}.rows"
    done = _done(marker) if path.exists() else 0
    if done < shape[0]:
        array = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
        # Written and not mapped: the file has holes, and of a full disk a mapping tells by a signal that ends all.
        with path.open("r+b") as file, progress(label, total=shape[0], start=done) as advance:
            file.seek(array.offset + array[:done].nbytes)
            for row, values in enumerate(compute(done), done):
                with np.errstate(over="ignore"):  # refused below, with the row
                    kept = np.broadcast_to(values, shape[1:]).astype(np.float16)
                if not np.isfinite(kept).all():
                    raise DataError(
                        f"{label}: row {row + 1} has a feature that is NaN, infinite or beyond {_MOST:g}, which is "
                        "the most that fp16 holds: mend or remove its medium, or scale the features"
                    )
                file.write(kept.tobytes())
                if row % 256 == 255 or row == shape[0] - 1:
                    file.flush()
                    os.fsync(file.fileno())
                    write_whole(marker, str(row + 1))
                advance()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def _done(marker: Path) -> int:
    """Rows that are whole; of a marker that is missing or damaged none."""
    try:
        return int(marker.read_text())
    except (OSError, ValueError):
        return 0
