"""GRID sentences by voices other than its speaker's: ``python -m models.training.recipes.av_speech.voices OUT``.

Four programs speak, which must be installed: Flite, Festival with the voice ``ked``, eSpeak NG, and SVOX Pico by the
Python package ttspico. ``OUT`` becomes a data folder with ``audio``, ``text`` and ``speaker`` in each line: two of the
voices are there to measure on, and in no training.
"""

import argparse
import importlib
import json
import random
import subprocess
import sys
import wave
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from models.training.manifest import DataError
from models.training.progress import progress
from models.training.recipes.av_speech.data import GRAMMAR, RATE

_LETTERS = GRAMMAR[3]
_SPELLED = "ay bee see dee ee eff gee aitch eye jay kay el em en oh pee cue are ess tee you vee ex why zed"
"""Letters as words, for "a" alone is read as an article."""
_PHONEMES = "eI bi: si: di: i: Ef dZi: eItS aI dZeI keI El Em En oU pi: kju: A@ Es ti: ju: vi: Eks waI zEd"
"""The same as eSpeak writes them, whose accents would say the words otherwise."""
_ACCENTS = (
    *("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan"),
    *("en-gb-x-rp", "en-gb-x-gbcwmd", "en-us-nyc", "en-029"),
)
_VARIANTS = ("", *(f"+m{number}" for number in range(1, 8)), *(f"+f{number}" for number in range(1, 6)))

Speak = Callable[[Sequence[str], random.Random, Path], None]


def _flite(voice: str, words: Sequence[str], chance: random.Random, file: Path) -> None:
    stretch = f"duration_stretch={chance.uniform(0.75, 1.15):.2f}"
    _run(["flite", "-voice", voice, "--setf", stretch, "-t", _spelled(words), "-o", str(file)])


def _festival(voice: str, words: Sequence[str], chance: random.Random, file: Path) -> None:
    stretch = f"(Parameter.set 'Duration_Stretch {chance.uniform(0.75, 1.15):.2f})"
    said = f'(utt.synth (Utterance Text "{_spelled(words)}"))'
    _run(["festival", "--pipe"], f'(voice_{voice}){stretch}(utt.save.wave {said} "{file}" \'riff)')


def _espeak(words: Sequence[str], chance: random.Random, file: Path) -> None:
    voice = chance.choice(_ACCENTS) + chance.choice(_VARIANTS)
    speed, pitch = chance.randint(140, 210), chance.randint(25, 75)
    said = _spelled(words, " ".join(f"[[{letter}]]" for letter in _PHONEMES.split()))
    _run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(file), said])


class _Pico:
    def __init__(self, language: str) -> None:
        try:
            ttspico: Any = importlib.import_module("ttspico")
            # Its languages lie in the environment's folder, and it takes only paths that end in a slash.
            self._engine = ttspico.TtsEngine(language, f"{sys.prefix}/languages/")
        except (ImportError, RuntimeError) as error:
            raise DataError(f"SVOX Pico cannot speak {language} ({error}): install the package ttspico") from error

    def __call__(self, words: Sequence[str], chance: random.Random, file: Path) -> None:
        self._engine.rate, self._engine.pitch = chance.randint(85, 140), chance.randint(80, 125)
        with wave.open(str(file), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(RATE)
            sound.writeframes(self._engine.speak(_spelled(words)))


class Voice(NamedTuple):
    """What speaks, made when it is needed, and how many sentences it says for which split."""

    split: str
    sentences: int
    speaker: Callable[[], Speak]


VOICES: Mapping[str, Voice] = {
    "kal16": Voice("train", 500, lambda: partial(_flite, "kal16")),
    "awb": Voice("train", 500, lambda: partial(_flite, "awb")),
    "slt": Voice("train", 500, lambda: partial(_flite, "slt")),
    "ked": Voice("train", 500, lambda: partial(_festival, "ked_diphone")),
    "pico-us": Voice("train", 500, lambda: _Pico("en-US")),
    "espeak": Voice("train", 1500, lambda: _espeak),
    "rms": Voice("val", 100, lambda: partial(_flite, "rms")),
    "pico-gb": Voice("val", 100, lambda: _Pico("en-GB")),
}
"""By name; ``espeak`` is many, of eight accents."""


def write_voices(out: Path, voices: Mapping[str, Voice] = VOICES) -> dict[str, int]:
    """Have every voice say its sentences into ``out``, with a manifest of each split; returns how many each has.

    Raises:
        DataError: a program is missing or fails.
    """
    manifests: dict[str, list[str]] = {"train": [], "val": []}
    with progress("sentences", total=sum(voice.sentences for voice in voices.values())) as advance:
        for name, voice in voices.items():
            speak, chance = voice.speaker(), random.Random(name)  # noqa: S311  repeatable, and nothing secret
            (out / name).mkdir(parents=True, exist_ok=True)
            for number in range(voice.sentences):
                words = [chance.choice(place) for place in GRAMMAR]
                file = out / name / f"{number:04}.wav"
                speak(words, chance, file)
                line = {"audio": f"{name}/{file.name}", "text": " ".join(words), "speaker": name}
                manifests[voice.split].append(json.dumps(line) + "\n")
                advance()
    for split, lines in manifests.items():
        (out / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {split: len(lines) for split, lines in manifests.items()}


def _spelled(words: Sequence[str], letters: str = _SPELLED) -> str:
    """The words, of which the letter is written as it is said."""
    said = dict(zip(_LETTERS, letters.split(), strict=True))
    return " ".join(said.get(word, word) for word in words)


def _run(command: list[str], given: str = "") -> None:
    try:
        subprocess.run(command, input=given.encode(), check=True, capture_output=True)  # noqa: S603  our own command
    except FileNotFoundError as error:
        raise DataError(f"there is no {command[0]}: install the programs named in docs/data.md") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise DataError(f"{' '.join(command)} failed: {said}") from error


def main() -> None:
    """Write the folder."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("out", type=Path, help="the data folder to write")
    counts = write_voices(arguments.parse_args().out)
    print(", ".join(f"{count} to {split}.jsonl" for split, count in counts.items()))


if __name__ == "__main__":
    main()
