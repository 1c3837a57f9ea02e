"""Word error rates of ``av-speech`` or ``av-speech-live`` by sound, lips and both, against babble: page and picture.

python -m models.training.recipes.av_speech.study CHECKPOINT --data FOLDER --out docs/results --others FOLDER
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.checkpoint import METRICS
from models.features import Extracted
from models.features.mouth import MouthFeatures
from models.pipeline import Pipeline
from models.sequence import SequenceOutput, pad
from models.tasks.transcription import TranscriptionResult, TranscriptionTask
from models.training.commands import shown
from models.training.markdown import interval, paragraph, table
from models.training.metrics.intervals import bootstrap
from models.training.metrics.words import edit_distance, word_figures
from models.training.progress import progress
from models.training.recipes.av_speech.data import SpeechData
from models.training.recipes.av_speech.noise import VOICES, noisy
from models.training.recipes.av_speech.others import Rates, other_speakers, section

LEVELS = (None, 20.0, 15.0, 10.0, 5.0, 0.0, -5.0)
"""Signal-to-noise ratios in dB; None is the clip as it is."""

GIVEN: dict[str, tuple[str, ...]] = {"sound": ("audio",), "lips": ("video",), "both": ("audio", "video")}
"""What is posted to the one network, by what the page calls it."""

PLACES = ("command", "colour", "preposition", "letter", "digit", "adverb")
FLAT = "no recurrence"
"""How the metrics call the network without recurrence, which ``flat.py`` trains."""
FLAT_EPOCHS = (12, 18)
"""Of its two stages: the rate rises again at the start of the second, as for the network itself."""
_BATCH = 25
_JOINED = 10
"""Sentences that are heard as one recording."""

Written = list[list[str]]
"""The words of every sentence of the split."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was written at each level, by what was given, with the grammar; ``free`` at None without it.

    ``joined``: of ``_JOINED`` sentences one after another, from a network that streams.
    """

    said: Written
    written: Mapping[str, Mapping[float | None, Written]]
    free: Mapping[str, Written]
    joined: Mapping[str, Written]


@torch.inference_mode()
def transcribe(pipeline: Pipeline, data: SpeechData, *, join: bool = True) -> Found:
    """Every validation sentence by every subset of its modalities, in every noise; ``join``: and several as one."""
    task = pipeline.task
    assert isinstance(task, TranscriptionTask)
    free_options = pipeline.options.model_validate({"grammar": False})
    rows = range(data.count("val"))
    written: dict[str, dict[float | None, Written]] = {name: {level: [] for level in LEVELS} for name in GIVEN}
    free: dict[str, Written] = {name: [] for name in GIVEN}
    with progress("sentences", total=len(rows)) as advance:
        for first in range(0, len(rows), _BATCH):
            part = rows[first : first + _BATCH]
            sentences = [data.sentence("val", row) for row in part]
            lips = encoded(pipeline, "video", [sentence.lips for sentence in sentences])
            for level in LEVELS:
                mixed = [noisy(one, data, row, level).sound for one, row in zip(sentences, part, strict=True)]
                outputs = {"audio": encoded(pipeline, "audio", mixed), "video": lips}
                for name, modalities in GIVEN.items():
                    fused = pipeline.network.fuse({modality: outputs[modality] for modality in modalities})
                    texts = task.best(fused, pipeline.options())
                    written[name][level] += [text.split() for text in texts]
                    if level is None:
                        free[name] += [text.split() for text in task.best(fused, free_options)]
            for _ in part:
                advance()
    streams = join and task.sentences is not None
    heard = {name: joined(pipeline, data, names) for name, names in GIVEN.items()} if streams else {}
    return Found([data.text("val", row) for row in rows], written, free, heard)


@torch.inference_mode()
def joined(pipeline: Pipeline, data: SpeechData, names: Sequence[str]) -> Written:
    """What is written of every ``_JOINED`` sentences one after another, as they are."""
    written = []
    for first in range(0, data.count("val"), _JOINED):
        sentences = [data.sentence("val", row) for row in range(first, min(first + _JOINED, data.count("val")))]
        media = {
            "audio": torch.cat([one.sound for one in sentences]),
            "video": torch.cat([one.lips for one in sentences]),
        }
        tensors = {name: read(pipeline, name, media[name]) for name in names}
        result = pipeline.predict(Extracted(tensors, {}), pipeline.options())
        assert isinstance(result, TranscriptionResult)
        written.append([word.word for word in result.words])
    return written


def read(pipeline: Pipeline, modality: str, medium: torch.Tensor) -> torch.Tensor:
    """What the network reads of lips [T, H, W], which it takes as they are, or of sound [N]."""
    if modality == "video":
        return medium
    features: Any = pipeline.config.modalities["audio"].features
    frames: torch.Tensor = features.scaled(features.log_mel()(medium.numpy()))
    return frames


def encoded(pipeline: Pipeline, modality: str, media: Sequence[torch.Tensor]) -> SequenceOutput:
    """The encoder's output for lips [T, H, W] or sounds [N] of several sentences."""
    padded = pad([read(pipeline, modality, medium) for medium in media])
    output: SequenceOutput = pipeline.network.encoders[modality](padded.values, padded.lengths)
    return output


def figures(found: Found) -> dict[str, dict[str, list[float]]]:
    """Word error rate, percent, with its interval: by what was given, then ``clean`` or ``20 dB``."""
    return {
        name: {_named(level): word_figures(written, found.said).intervals()["wer"] for level, written in levels.items()}
        for name, levels in found.written.items()
    }


def against_better(found: Found, level: float | None) -> list[float]:
    """By how many points both are worse than the better of the two alone: [difference, low, high], in pairs."""
    edits = {
        name: np.array([edit_distance(w, s) for w, s in zip(levels[level], found.said, strict=True)])
        for name, levels in found.written.items()
    }
    words = sum(map(len, found.said)) / len(found.said)
    better = min(("sound", "lips"), key=lambda name: float(edits[name].mean()))
    worse = edits["both"] - edits[better]

    def statistic(rows: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([100 * worse[rows].mean() / words])

    low, high = bootstrap(statistic, len(worse))
    return [float(statistic(np.arange(len(worse)))[0]), float(low[0]), float(high[0])]


def errors_by_place(found: Found, level: float | None) -> dict[str, list[float]]:
    """Percent of wrong words at each place of the grammar, by what was given."""
    return {
        name: [
            100 * float(np.mean([w[place] != s[place] for w, s in zip(levels[level], found.said, strict=True)]))
            for place in range(len(found.said[0]))
        ]
        for name, levels in found.written.items()
    }


def page(found: Found, others: Rates, checkpoint: str, command: str, picture: str, flat: Mapping[str, Any]) -> str:
    """The study in Markdown; ``flat`` has the baselines that ``flat.py`` wrote, or none."""
    rates = figures(found)
    differences = {level: against_better(found, level) for level in LEVELS}
    rows = [
        [f"{name}, {_named(level)}", *(f"{share:.0f}" for share in errors_by_place(found, level)[name])]
        for level in (None, 0.0)
        for name in GIVEN
        if level is None or name != "lips"
    ]
    lines = [
        "# Speech by sound, by lips, and by both",
        "",
        paragraph(
            f"Word error rate of {checkpoint} in percent on the {len(found.said)} validation sentences of GRID's "
            "speaker 1, whom the network was trained on, with 95 % bootstrap intervals. One network answers all three: "
            f"what is not posted is absent. The noise is babble of {VOICES} voices, sentences of the training split by "
            "the same speaker; its ratio is over the whole clip, of which about half is silence. Sentences follow the "
            "grammar, as they do by default."
        ),
        "",
        f"    {command}",
        "",
        f"![Word error rate against noise]({picture})",
        "",
        table(
            ["babble", *GIVEN, "both against the better one, points"],
            [
                [
                    _named(level),
                    *(interval(rates[name][_named(level)]) for name in GIVEN),
                    interval(differences[level], "+"),
                ]
                for level in LEVELS
            ],
        ),
        "",
        *_flat_lines(flat),
        "Without the grammar, any word may follow any other:",
        "",
        table(
            ["babble", *GIVEN],
            [["clean", *(interval(word_figures(found.free[name], found.said).intervals()["wer"]) for name in GIVEN)]],
        ),
        "",
        *_joined_lines(found),
        *section(others),
        "Where the errors are: percent of words that are wrong at each place of the sentence.",
        "",
        table(["", *PLACES], rows),
        "",
    ]
    return "\n".join(lines)


def _flat_lines(flat: Mapping[str, Any]) -> list[str]:
    if not flat:
        return []
    rows = [
        # Lips hear no noise.
        [_named(level), *(interval(flat[_flat(name, None if name == "lips" else level)]["wer"]) for name in GIVEN)]
        for level in LEVELS
    ]
    text = (
        "Without recurrence, each recurrent network replaced by a layer that sees one step, over the same "
        f"convolutions, after {sum(FLAT_EPOCHS)} epochs:"
    )
    command = "    python -m models.training.recipes.av_speech.flat CHECKPOINT --data FOLDER --out FOLDER"
    return [paragraph(text), "", command, "", table(["babble", *GIVEN], rows), ""]


def _flat(name: str, level: float | None) -> str:
    """What the metrics call a rate of the network without recurrence."""
    return f"{FLAT}, {name}, {_named(level)}"


def flat_baselines(rates: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """The rates of a network without recurrence, as the metrics have them."""
    return {
        _flat(name, level): {"wer": rates[name][_named(level)]}
        for name in GIVEN
        for level in LEVELS
        if name != "lips" or level is None
    }


def _joined_lines(found: Found) -> list[str]:
    if not found.joined:
        return []
    groups = [found.said[at : at + _JOINED] for at in range(0, len(found.said), _JOINED)]
    said = [[word for sentence in group for word in sentence] for group in groups]
    cells = [interval(word_figures(written, said).intervals()["wer"]) for written in found.joined.values()]
    text = f"{_JOINED} sentences one after another in one recording, with the pauses that there are between them:"
    return [paragraph(text), "", table(["babble", *found.joined], [["clean", *cells]]), ""]


def draw(rates: Mapping[str, Mapping[str, Sequence[float]]], picture: Path) -> None:
    """A PNG of word error rate against noise, with bands of the intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    levels = sorted(level for level in LEVELS if level is not None)
    clean = max(levels) + 5
    for name, values in rates.items():
        rows = np.array([values[_named(level)] for level in levels] + [values["clean"]])
        (line,) = axes.plot([*levels, clean], rows[:, 0], marker="o", markersize=4, label=name)
        axes.fill_between([*levels, clean], rows[:, 1], rows[:, 2], alpha=0.15, color=line.get_color(), linewidth=0)
    axes.set_xticks([*levels, clean], [*(f"{level:g}" for level in levels), "clean"])
    axes.set_xlabel("babble, signal-to-noise ratio in dB")
    axes.set_ylabel("word error rate, %")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


def study(checkpoint: Path, data_folder: Path, out: Path, cache: Path, others: Sequence[Path] = ()) -> None:
    """Measure, write a page of the checkpoint's name and its picture into ``out``, and the rates into its metrics."""
    pipeline = Pipeline.load(checkpoint)
    found = transcribe(pipeline, speech_data(pipeline, data_folder, cache))
    title = pipeline.config.name
    name = f"pictures/{title}-wer.png"
    rates = figures(found)
    draw(rates, out / name)
    command = f"python -m {__spec__.name} {shown(checkpoint)} --data {shown(data_folder)} --out {shown(out)}"
    if others:
        command += f" --others {' '.join(map(shown, others))}"
    metrics = dict(pipeline.metrics or {})
    flat = {key: value for key, value in metrics.get("baselines", {}).items() if key.startswith(FLAT)}
    (out / f"{title}.md").write_text(
        page(found, other_speakers(pipeline, others), title, command, name, flat), encoding="utf-8"
    )
    metrics["baselines"] = _baselines(rates) | flat
    (checkpoint / METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")


def remeasured(checkpoint: Path, data_folder: Path, cache: Path) -> dict[str, dict[str, list[float]]]:
    """What ``study`` writes into the checkpoint's metrics beside its figures."""
    pipeline = Pipeline.load(checkpoint)
    return _baselines(figures(transcribe(pipeline, speech_data(pipeline, data_folder, cache))))


def speech_data(pipeline: Pipeline, folder: Path, cache: Path) -> SpeechData:
    """GRID with the lips cut out as the checkpoint has them."""
    lips = pipeline.config.modalities["video"].features
    assert isinstance(lips, MouthFeatures)
    return SpeechData(folder, cache, mouth=MouthFeatures(causal=lips.causal))


def _baselines(rates: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """All rates but that of both in clean sound, which is the checkpoint's own; lips hear no noise."""
    systems = {"sound": "sound only", "lips": "lips only", "both": "both"}
    return {
        f"{systems[name]}, {level}": {"wer": values}
        for name, levels in rates.items()
        for level, values in levels.items()
        if (name, level) != ("both", "clean") and (name != "lips" or level == "clean")
    }


def _named(level: float | None) -> str:
    return "clean" if level is None else f"{level:g} dB"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl and val.jsonl")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page")
    parser.add_argument("--cache", type=Path, help="folder of the decoded clips; beside the checkpoint if missing")
    parser.add_argument("--others", type=Path, nargs="+", default=[], help="folders of other speakers' recordings")
    given = parser.parse_args()
    study(given.checkpoint, given.data, given.out, given.cache or given.checkpoint.parent / "cache", given.others)


if __name__ == "__main__":
    main()
