"""The loaded checkpoints by name, and those that failed with the reason."""

import importlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import NotFound, Unavailable
from app.telemetry import log

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.runtime import RuntimeName

_LOADING_RETRY = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was named and is not served."""

    name: str
    reason: str


class Registry:
    """Loads once, in a thread of its own, while the service already answers."""

    def __init__(self) -> None:
        self.pipelines: dict[str, Pipeline] = {}
        self.failed: list[Failure] = []
        self.loaded = False

    def load(
        self,
        roots: Iterable[Path],
        device: str,
        plugins: Iterable[str],
        prepare: Callable[["Pipeline"], object],
        runtime: "RuntimeName" = "auto",
    ) -> None:
        """Load every checkpoint under ``roots`` and run ``prepare`` on each before it is served. Never raises."""
        for name in plugins:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - a plugin is foreign code and may raise anything
                self._fail(f"plugin {name}", error)
        try:
            place = choose_device(device)
        except ValueError as error:
            self._fail("device", error)
        else:
            for root in roots:
                try:
                    folders = list(checkpoint_folders(root))
                except OSError as error:
                    self._fail(str(root), error)
                    continue
                for folder in folders:
                    self._load(folder, place, runtime, prepare)
        self.loaded = True
        log.info("loaded", models=sorted(self.pipelines), failed=[failure.name for failure in self.failed])

    def get(self, name: str) -> "Pipeline":
        """The checkpoint called ``name``.

        Raises:
            Unavailable: it may still be loading.
            NotFound: there is none.
        """
        if (pipeline := self.pipelines.get(name)) is not None:
            return pipeline
        if not self.loaded:
            raise Unavailable(f"Models are still being loaded, '{name}' perhaps among them.", _LOADING_RETRY)
        reason = next((f" It failed to load: {failure.reason}" for failure in self.failed if failure.name == name), "")
        known = ", ".join(sorted(self.pipelines)) or "none at all"
        raise NotFound(f"There is no model '{name}'.{reason}", f"These are served: {known}.")

    def _load(self, folder: Path, device: str, runtime: "RuntimeName", prepare: Callable[["Pipeline"], object]) -> None:
        from models.pipeline import Pipeline

        try:
            pipeline = Pipeline.load(folder, device, runtime)
            if pipeline.config.name not in self.pipelines:
                prepare(pipeline)
        except Exception as error:  # noqa: BLE001 - one bad folder, or a plugin's network, must not stop the others
            self._fail(folder.name, error)
            return
        name = pipeline.config.name
        if name in self.pipelines:
            self._fail(folder.name, ValueError(f"another folder already serves a checkpoint called '{name}'"))
            return
        # Replaced rather than changed: readers on the event loop iterate over it.
        self.pipelines = {**self.pipelines, name: pipeline}
        log.info("model ready", model=name, version=pipeline.config.version, digest=pipeline.digest[:12])

    def _fail(self, name: str, error: Exception) -> None:
        reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        self.failed = [*self.failed, Failure(name, reason)]
        log.error("not served", name=name, reason=reason)


def checkpoint_folders(root: Path) -> Iterator[Path]:
    """``root`` itself where it is a checkpoint, otherwise its visible subfolders in the order of their names.

    Raises:
        OSError: ``root`` is not a folder that can be read.
    """
    if (root / "config.json").is_file():
        yield root
    else:
        yield from sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")


def find_checkpoint(name: str, roots: Iterable[Path]) -> Path | None:
    """The folder of the checkpoint called ``name``, or ``name`` itself where it is the path of one."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    for folder in (folder for root in roots if root.is_dir() for folder in checkpoint_folders(root)):
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            config = None
        if isinstance(config, dict) and config.get("name") == name:
            return folder
    return None


def choose_device(asked: str) -> str:
    """``asked`` (auto, cpu or cuda) as torch calls it.

    Raises:
        ValueError: cuda was asked for and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise ValueError("cuda was asked for, but torch finds no CUDA device; set FUSIONRNN_DEVICE to auto or cpu")
    return "cuda" if available and asked != "cpu" else "cpu"
