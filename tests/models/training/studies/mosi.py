"""A made-up data set in the shape of CMU-MOSI's features: text tells the class, the others little or nothing."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_mosi(folder: Path, *, train: int = 10, test: int = 3, seed: int = 0) -> None:
    """Write ``folder``/mosi.npz with ``train`` and ``test`` videos of 4 to 7 utterances, in no order."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, NDArray[Any]] = {}
    for split, videos in (("train", train), ("test", test)):
        counts = rng.integers(4, 8, videos)
        rows = int(counts.sum())
        labels = rng.integers(0, 2, rows)
        sign = (2 * labels - 1)[:, None]
        columns = {
            "text": rng.normal(size=(rows, 6)) + 3 * sign,
            "audio": rng.normal(size=(rows, 4)),
            "video": rng.normal(size=(rows, 5)) + sign,
            "label": labels,
            "video_id": np.repeat([f"{split}{video}" for video in range(videos)], counts),
            "utterance": np.concatenate([np.arange(1, count + 1) for count in counts]),
        }
        order = rng.permutation(rows)
        arrays |= {f"{split}_{name}": value[order] for name, value in columns.items()}
    np.savez(folder / "mosi.npz", allow_pickle=False, **arrays)
