"""Tiny data sets of made-up sounds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 8000


def write_sounds(folder: Path, split: str, examples: Sequence[dict[str, Any]], seconds: float = 0.4) -> None:
    """A manifest with one short noisy tone an example; those of one label have one pitch."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(examples))
    pitches = {label: 200 * 1.2**place for place, label in enumerate(sorted({e["label"] for e in examples}))}
    lines = []
    for row, example in enumerate(examples):
        times = np.arange(round(seconds * RATE)) / RATE
        sound = 0.3 * np.sin(2 * np.pi * pitches[example["label"]] * times) + 0.01 * rng.normal(size=len(times))
        name = f"{split}-{row}.wav"
        soundfile.write(folder / name, sound, RATE)
        lines.append(json.dumps({"audio": name, **example}) + "\n")
    (folder / f"{split}.jsonl").write_text("".join(lines))
