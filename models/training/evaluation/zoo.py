"""The shipped checkpoints, measured again: each on the data sets of its own, beside the figures that it came with."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.pipeline import Pipeline
from models.training.evaluation import measure, read_examples
from models.training.manifest import DataError
from models.training.nested import flat

Figures = dict[str, Any]
Measured = Callable[[Path, Path, Path], Figures]
"""Checkpoint folder, folder of all data sets, folder for caches -> figures by name, nested as in metrics.json."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: what metrics.json says, and what was measured now, each alone or with its interval."""

    checkpoint: str
    figure: str
    recorded: Any
    measured: Any

    def differs(self) -> bool:
        """Whether the two are further apart than rounding and threads explain, as a share.

        A calibration error may move by twice as much: by rounding, an answer can go from one bin to the next.
        """
        if self.recorded is None or self.measured is None:
            return False
        old, new = (float(each[0] if isinstance(each, list) else each) for each in (self.recorded, self.measured))
        tolerance = 2e-3 if self.figure.endswith("expected_calibration_error") else 1e-3
        return abs(old - new) > tolerance * max(abs(old), abs(new), 1)


def measure_all(folders: Sequence[Path], data: Path, cache: Path) -> Iterator[Line]:
    """Every figure of the checkpoints in ``folders`` that a recipe of this project made, without training anything.

    What only training makes (seeds, folds, networks to compare with) is there without a second measurement.

    Raises:
        CheckpointError: a folder is not a usable checkpoint.
        DataError: a data set is missing or cannot be used.
    """
    for folder in folders:
        pipeline = Pipeline.load(folder)
        how = ZOO.get(pipeline.config.name)
        if how is None:
            continue
        recorded, found = _recorded(pipeline.metrics or {}), dict(flat(how(folder, data, cache), ", "))
        for figure in [*found, *(key for key in recorded if key not in found)]:
            yield Line(pipeline.config.name, figure, recorded.get(figure), found.get(figure))


def _recorded(metrics: Mapping[str, Any]) -> Figures:
    """The figures of a metrics.json by name: what stands under ``figures`` and ``baselines`` needs no other name."""
    groups = {name: value for name, value in metrics.items() if isinstance(value, Mapping)}
    plain = {name: groups.pop(name, {}) for name in ("baselines", "figures")}
    return {name: value for group in (*plain.values(), groups) for name, value in flat(group, ", ")}


def _on(dataset: str, target: str | None = None) -> Measured:
    """Measured as ``fusionrnn evaluate`` does."""

    def figures(folder: Path, data: Path, cache: Path) -> Figures:  # noqa: ARG001
        if not (data / dataset).is_dir():
            raise DataError(f"{data / dataset} does not exist: the data set that {folder.name} is measured on")
        pipeline = Pipeline.load(folder)
        found: Figures = measure(pipeline, read_examples(pipeline, data / dataset, "val", target))["figures"]
        return found

    return figures


def _sentiment(folder: Path, data: Path, cache: Path) -> Figures:
    return {name: _on(name)(folder, data, cache) for name in ("sst2", "chn_hotel")}


def _speech(folder: Path, data: Path, cache: Path) -> Figures:
    from models.training.recipes.av_speech.study import remeasured

    return _on("grid_s1", "text")(folder, data, cache) | remeasured(folder, data / "grid_s1", cache / "speech")


def _digits(folder: Path, data: Path, cache: Path) -> Figures:
    from models.training.recipes.digits.recipe import remeasured

    return remeasured(folder, data, cache / "digits")


def _sounds(folder: Path, data: Path, cache: Path) -> Figures:
    """Recordings alone: its figures are those of other networks, each trained without the fold it was measured on."""
    from models.training.recipes.sound_events.recipe import remeasured

    return remeasured(folder, data / "esc10", cache / "sounds")


def _commands(folder: Path, data: Path, cache: Path) -> Figures:
    from models.training.recipes.voice_commands.recipe import remeasured

    return _on("speech_commands")(folder, data, cache) | remeasured(
        folder, data / "speech_commands", cache / "commands"
    )


ZOO: Mapping[str, Measured] = {
    "av-speech": _speech,
    "av-speech-live": _speech,
    "captioner": _on("flickr8k", "captions"),
    "digits": _digits,
    "image-text-embedding": _on("flickr8k", "captions"),
    "sentiment": _sentiment,
    "sound-events": _sounds,
    "voice-commands": _commands,
}
