"""Drawn faces that say sentences of the GRID grammar in tones."""

import json
from pathlib import Path
from typing import Any

from models.training.recipes.av_speech.data import GRAMMAR
from tests.models.features.faces import face
from tests.models.media.make import clip, recorded, tone

FRAMES = 24


def spoken(words: list[str]) -> list[list[Any]]:
    """Words of three frames each, after four frames of silence."""
    timed: list[list[Any]] = [["sil", 0, 0.16]]
    timed += [[word, 0.16 + 0.12 * place, 0.28 + 0.12 * place] for place, word in enumerate(words)]
    return [*timed, ["sil", 0.88, 0.96]]


def write_sentences(folder: Path) -> None:
    """Four clips to train on and two to measure with."""
    for split, count in (("train", 4), ("val", 2)):
        lines = []
        for number in range(count):
            words = [place[number % len(place)] for place in GRAMMAR]
            frames = [face(80, 60, 50, opened=(step % 3) / 2, height=120, width=160) for step in range(FRAMES)]
            name = f"{split}-{number}.mp4"
            (folder / name).write_bytes(clip(frames, rate=25, sound=tone(300 + 200 * number, FRAMES / 25)))
            lines.append(json.dumps({"video": name, "text": " ".join(words), "words": spoken(words)}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))


def write_voices(folder: Path) -> None:
    """Four sentences of other voices to train on and two to measure with."""
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 4), ("val", 2)):
        lines = []
        for number in range(count):
            words = [place[(number + 1) % len(place)] for place in GRAMMAR]
            (folder / f"{split}-{number}.wav").write_bytes(recorded(tone(900 + 100 * number, 0.8), 48_000))
            line = {"audio": f"{split}-{number}.wav", "text": " ".join(words), "speaker": f"voice {number}"}
            lines.append(json.dumps(line))
        (folder / f"{split}.jsonl").write_text("\n".join(lines))
