"""The loaded checkpoints by name, and those that failed with the reason."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from app.engine.device import in_own_thread
from app.errors import LoadFailed, NoSuchModel, Unavailable
from app.log import log
from models.device import choose_device

if TYPE_CHECKING:
    from models.pipeline import Pipeline
    from models.profile import Profile
    from models.runtime import RuntimeName

Prepare: TypeAlias = "Callable[[Pipeline], object]"
_LOADING_RETRY = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was named and is not served."""

    name: str
    reason: str


class Registry:
    """Loads in a thread of its own, while the service already answers.

    ``served`` are all by name: those in memory are pipelines, the others rest and are loaded again when somebody asks.
    It is replaced whole rather than changed, since the event loop reads it meanwhile: no name is missing in between.
    """

    def __init__(
        self, roots: Sequence[Path], device: str, plugins: Sequence[str], runtime: "RuntimeName", threads: int = 0
    ) -> None:
        """``roots`` hold checkpoint folders, or are some; ``plugins`` are imported before any is loaded.

        ``threads`` are those of the device that will run the networks, 0 for torch's choice.
        """
        self.served: dict[str, Profile] = {}
        self._folders: dict[str, Path] = {}
        self.failed: list[Failure] = []
        self.loaded = False
        self._roots, self._device, self._plugins, self._runtime = roots, device, plugins, runtime
        self._threads = threads

    @property
    def profiles(self) -> "dict[str, Profile]":
        """All that is served, by name, in the order of the names."""
        return dict(sorted(self.served.items()))

    @property
    def pipelines(self) -> "dict[str, Pipeline]":
        """Those in memory, by name."""
        return {name: found for name, found in self.served.items() if _in_memory(found)}

    @property
    def counts(self) -> dict[str, int]:
        """How many checkpoints there are by state."""
        served = self.served
        loaded = sum(map(_in_memory, served.values()))
        return {"loaded": loaded, "resting": len(served) - loaded, "failed": len(self.failed)}

    def load_all(self, prepare: Prepare, is_stopping: Callable[[], bool] = lambda: False) -> None:
        """Load every checkpoint, running ``prepare`` on each before it serves, until all is to stop. Never raises."""
        for name in self._plugins:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - a plugin is foreign code and may raise anything
                self._fail(f"plugin {name}", error)
        try:
            choose_device(self._device)
        except ValueError as error:
            self._fail("device", error)
        else:
            for root in self._roots:
                try:
                    folders, others = checkpoint_folders(root)
                except OSError as error:
                    self._fail(str(root), error)
                    continue
                if others:
                    names = [folder.name for folder in others]
                    log.warning("no checkpoints: no config.json can be read in them", root=str(root), folders=names)
                for folder in folders:
                    if is_stopping():
                        return
                    self._try(folder, prepare)
        self.loaded = True
        log.info("loaded", models=sorted(self.pipelines), failed=[failure.name for failure in self.failed])

    def load(self, name: str, prepare: Prepare) -> "Pipeline":
        """Load the folder of that name as it is now, and serve it in place of what had the name.

        Raises:
            NoSuchModel: there is no such folder.
            LoadFailed: it cannot be served. What had the name still is.
        """
        # By its name, so that no path of a client's making is looked at; of several so called it is the one it was.
        known = self._folders.get(name)
        folder = known if known is not None and _is_called(known, name) else _named(name, self._roots)
        if folder is None:
            raise NoSuchModel(
                f"No folder holds a checkpoint '{name}'.", "Put one into a folder of FUSIONRNN_MODEL_DIR."
            )

        def prepare_named(pipeline: "Pipeline") -> None:
            # The folder may have been given to another one since it was looked at, which must not take a name away.
            if pipeline.config.name != name:
                raise ValueError(f"the checkpoint in its folder is '{pipeline.config.name}' now")
            prepare(pipeline)

        try:
            pipeline = self._load(folder, prepare_named)
        except Exception as error:
            said = f"'{name}' cannot be loaded: {_reason(error)}"
            raise LoadFailed(said, "What was served before still is.") from error
        self._serve(pipeline, folder)
        self.failed = [failure for failure in self.failed if failure.name not in (name, folder.name)]
        return pipeline

    def unload(self, name: str, *, rest: bool) -> None:
        """Give its memory back once nobody uses it; one that rests is loaded again when it is asked for.

        Raises:
            NoSuchModel: it is not served.
        """
        profile = self.profile(name)
        others = {key: found for key, found in self.served.items() if key != name}
        self.served = {**others, name: profile} if rest else others
        log.info("model unloaded", model=name, rests=rest)

    def get(self, name: str) -> "Pipeline":
        """The checkpoint called ``name``, which is in memory.

        Raises:
            Unavailable: it may still be loading, or is to be loaded again.
            NoSuchModel: there is none.
        """
        found = self._known(name)
        if _in_memory(found):
            return found
        raise Unavailable(f"'{name}' is not in memory now.", _LOADING_RETRY)

    def profile(self, name: str) -> "Profile":
        """What there is to know of the checkpoint called ``name``, whether or not it is in memory.

        Raises:
            Unavailable: it may still be loading.
            NoSuchModel: there is none.
        """
        found = self._known(name)
        return found.profile() if _in_memory(found) else found

    def find(self, name: str) -> "Profile | None":
        """The checkpoint called ``name``: a pipeline where it is in memory, None where none is served."""
        return self.served.get(name)

    def is_resting(self, name: str) -> bool:
        """Whether it is served, and has to be loaded again first."""
        found = self.find(name)
        return found is not None and not _in_memory(found)

    def _known(self, name: str) -> "Profile":
        if (found := self.find(name)) is not None:
            return found
        if not self.loaded:
            raise Unavailable(f"Models are still being loaded, '{name}' perhaps among them.", _LOADING_RETRY)
        reason = next((f" It failed to load: {failure.reason}" for failure in self.failed if failure.name == name), "")
        known = ", ".join(self.profiles) or "none at all"
        raise NoSuchModel(f"There is no model '{name}'.{reason}", f"These are served: {known}.")

    def _try(self, folder: Path, prepare: Prepare) -> None:
        def prepare_first(pipeline: "Pipeline") -> None:
            name = pipeline.config.name
            if name in self.served:
                raise ValueError(f"another folder already serves a checkpoint called '{name}'")
            prepare(pipeline)

        try:
            self._serve(self._load(folder, prepare_first), folder)
        except Exception as error:  # noqa: BLE001 - one bad folder, or a plugin's network, must not stop the others
            self._fail(folder.name, error)

    def _load(self, folder: Path, prepare: Prepare) -> "Pipeline":
        from models.pipeline import Pipeline

        load = partial(Pipeline.load, folder, choose_device(self._device), self._runtime)
        pipeline = in_own_thread(self._threads, load)
        prepare(pipeline)
        return pipeline

    def _serve(self, pipeline: "Pipeline", folder: Path) -> None:
        name = pipeline.config.name
        self._folders[name] = folder
        self.served = {**self.served, name: pipeline}
        log.info("model ready", model=name, version=pipeline.config.version, digest=pipeline.digest[:12])

    def _fail(self, name: str, error: Exception) -> None:
        reason = _reason(error)
        self.failed = [*self.failed, Failure(name, reason)]
        log.error("not served", name=name, reason=reason)


def _in_memory(profile: "Profile") -> "TypeGuard[Pipeline]":
    from models.pipeline import Pipeline

    return isinstance(profile, Pipeline)


def _reason(error: Exception) -> str:
    if (reason := getattr(error, "reason", None)) is not None:
        return str(reason)
    # A plugin's own exception says little without its kind: "'weights.bin'", of a KeyError.
    return str(error) if isinstance(error, ValueError | OSError) and str(error) else repr(error)


def checkpoint_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """``root`` itself where it is a checkpoint, otherwise its visible subfolders that are, in the order of their names.

    And those that are none, having no config.json that can be read: such as a data set beside them.

    Raises:
        OSError: ``root`` is not a folder that can be read.
    """
    if _is_checkpoint(root):
        return [root], []
    visible = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")
    return list(filter(_is_checkpoint, visible)), [path for path in visible if not _is_checkpoint(path)]


def find_checkpoint(name: str, roots: Iterable[Path]) -> Path | None:
    """The folder of the checkpoint called ``name``, or ``name`` itself where it is the path of one."""
    return Path(name) if _is_checkpoint(Path(name)) else _named(name, roots)


def _named(name: str, roots: Iterable[Path]) -> Path | None:
    folders = (folder for root in roots if root.is_dir() for folder in checkpoint_folders(root)[0])
    return next((folder for folder in folders if _is_called(folder, name)), None)


def _is_checkpoint(folder: Path) -> bool:
    try:
        return (folder / "config.json").is_file()
    # Folders that are somebody else's, as lost+found on a volume of its own, must not hide those beside them.
    except OSError:
        return False


def _is_called(folder: Path, name: str) -> bool:
    from models.checkpoint import CheckpointError, described

    try:
        return described(folder).get("name") == name
    except CheckpointError:
        return False
