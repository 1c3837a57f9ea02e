"""Features computed once and kept on disk as one fp16 array, so that epochs read instead of decode."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.training.progress import progress

FeatureArray = NDArray[np.float16]


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(json.dumps([key, shape], sort_keys=True, default=str).encode()).hexdigest()[:16]
    path, marker = folder / f"{label}-{digest}.npy", folder / f"{label}-{digest}.rows"
    done = int(marker.read_text()) if path.exists() and marker.exists() else 0
    array = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
    if done < shape[0]:
        with progress(label, total=shape[0], start=done) as advance:
            for row, values in enumerate(compute(done), done):
                array[row] = values
                if row % 256 == 255 or row == shape[0] - 1:
                    array.flush()
                    marker.write_text(str(row + 1))
                advance()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
