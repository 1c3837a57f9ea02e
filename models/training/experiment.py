"""An experiment: the TOML file that says which parts to train on a data folder, and how.

What the data dictates (classes, vocabulary, sizes of ready vectors) is not asked for: ``Experiment.checkpoint`` fills
it in. A key that is not known is refused with the name that was probably meant.
"""

import tomllib
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

import models.encoders
import models.fusion
import models.heads  # noqa: F401  these three register the parts that an experiment may name
from models.config import HEADS_OF, CheckpointConfig, Task
from models.features import FEATURES, Modality
from models.refusals import fault, first_fault, nearest
from models.registry import ENCODERS, FUSIONS, HEADS, ComponentConfig, Registry
from models.training.augmentation import AUGMENTATIONS, FITTING
from models.training.manifest import DataError
from models.training.plan import TrainingPlan
from models.training.rehearsal import rehearse

DEFAULT_PARTS: dict[str, tuple[str, str]] = {
    "image": ("pixels", "image-small"),
    "text": ("tokens", "text-rnn"),
    "audio": ("log-mel", "audio-rnn"),
    "video": ("frames", "video-rnn"),
}
"""Features and encoder of a modality that names none."""

DICTATED = frozenset({"blank", "classes", "kind", "languages", "outputs", "vocabulary"})
"""Keys of parts that follow from the data."""

READY = "vectors"
"""Features whose medium is an array in a file, whatever modality it stands for."""


class ExperimentError(DataError):
    """The TOML file cannot be used; the message names the file, the key and the remedy."""


def _by_name(value: object) -> object:
    """A part of the network may be named by its type alone."""
    return {"type": value} if isinstance(value, str) else value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalityPlan(_Strict):
    """``[modalities.NAME]``: features and encoder, each by its type or as a table with a ``type``."""

    required: bool = Field(False, description="Refuse bundles without this modality when serving")
    max_items: int = Field(1, ge=1, le=256, description="Most media of this modality in one bundle")
    features: dict[str, Any] = Field(default_factory=dict)
    encoder: dict[str, Any] = Field(default_factory=dict)
    augment: tuple[str, ...] = Field((), description="Names from models/training/augmentation.py")

    _parts = field_validator("features", "encoder", mode="before")(_by_name)

    @field_validator("augment")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in AUGMENTATIONS:
                raise ValueError(f"there is no augmentation '{name}'{nearest(name, AUGMENTATIONS)}")
        return value


class Experiment(_Strict):
    """The whole file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field("1.0.0", pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")
    task: Task
    description: str = Field("", max_length=2000)
    terms: str = Field("", max_length=2000, description="Source and licence of the data, for the model card")
    target: str | None = Field(None, description="Field of the manifest that is learned; each task has its own default")
    modalities: dict[Modality, ModalityPlan] = Field(min_length=1)
    fusion: dict[str, Any] = Field(default_factory=dict)
    head: dict[str, Any] = Field(default_factory=dict)
    training: TrainingPlan = TrainingPlan()
    defaults: dict[str, Any] = Field(default_factory=dict, description="Default values of the served task's options")

    _parts = field_validator("fusion", "head", mode="before")(_by_name)

    @model_validator(mode="after")
    def _settings_fit(self) -> Self:
        if self.target in self.modalities:
            raise ValueError(f"'{self.target}' is read as a modality and cannot be the target as well")
        if self.task == "embedding" and self.training.modality_dropout:
            raise ValueError("training.modality_dropout would part the pairs that an embedding learns from")
        if self.task != "embedding" and "contrastive_loss" in self.training.model_fields_set:
            raise ValueError(f"training.contrastive_loss is for the task 'embedding', not for '{self.task}'")
        if self.training.balance != "none" and len(self.modalities) < 2:
            raise ValueError("training.balance holds modalities against each other: name at least two, or leave it out")
        return self

    @property
    def by_step(self) -> bool:
        """Whether each step of an example has a target of its own."""
        return bool(self.head.get("per") == "step")

    @property
    def _voted(self) -> bool:
        return self.fusion.get("type") == "decision" and not self.by_step

    def features(self, name: Modality, dictated: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The features' table of a modality, with its default type and what the data dictates."""
        return {"type": DEFAULT_PARTS[name][0]} | dict(dictated or {}) | self.modalities[name].features

    def encoder(self, name: Modality, dictated: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The encoder's table of a modality, likewise."""
        table = self.modalities[name].encoder
        kind = table.get("type") or _encoder_for(name, str(self.features(name)["type"]))
        return {"type": kind} | _fitting(ENCODERS, kind, dictated or {}) | table

    def fusion_table(self, outputs: int | None = None) -> dict[str, Any]:
        """The fusion's table; ``outputs`` is how many numbers the task decides on."""
        # Where steps are answered to, those of several modalities are read side by side.
        stepwise = self.task == "transcription" or self.by_step
        kind = self.fusion.get("type", "recurrent" if stepwise else "concat")
        dictated = {"outputs": outputs} if outputs is not None else {}
        return {"type": kind} | _fitting(FUSIONS, kind, dictated) | self.fusion

    def head_table(self, dictated: Mapping[str, Any]) -> dict[str, Any]:
        """The head's table: a ``decision`` fusion has voted already; any other leaves the answer to the task's head."""
        kind = self.head.get("type") or ("decision" if self._voted else HEADS_OF[self.task][0])
        given = {"kind": self.task, **dictated} if kind == "decision" else dictated
        return {"type": kind} | _fitting(HEADS, kind, given) | self.head

    def checkpoint(
        self,
        *,
        head: Mapping[str, Any],
        vocabulary: int,
        vectors: Mapping[Modality, int],
        labels: list[str] | None,
        defaults: Mapping[str, Any],
    ) -> CheckpointConfig:
        """The config of the checkpoint to train, sizes filled in.

        Raises:
            ExperimentError: the parts do not fit each other or the data.
        """
        value = {
            "name": self.name,
            "version": self.version,
            "task": self.task,
            "description": self.description or f"A {self.task} network trained by the experiment {self.name}.",
            "modalities": {
                name: {
                    "required": plan.required,
                    "max_items": plan.max_items,
                    "features": self.features(name, {"size": vectors[name]} if name in vectors else None),
                }
                for name, plan in self.modalities.items()
            },
            "network": {
                "encoders": {
                    name: self.encoder(name, _dictated(vocabulary, vectors.get(name), self.features(name)))
                    for name in self.modalities
                },
                "fusion": self.fusion_table(head.get("outputs")),
                "head": self.head_table(head),
            },
            "labels": labels,
            "defaults": {**defaults, **self.defaults},
        }
        try:
            return CheckpointConfig.model_validate(value)
        except ValidationError as error:
            raise ExperimentError(
                f"The experiment '{self.name}' does not fit together: {first_fault(error)}"
            ) from error

    def check_parts(self) -> None:
        """Refuse unknown part types, unknown keys, impossible sizes and parts that do not fit, before data are read.

        Raises:
            ValueError: with the table, the key and the name that was probably meant, or with what does not fit.
        """
        for name in self.modalities:
            where = f"modalities.{name}"
            _check_part(FEATURES, self.features(name), f"{where}.features", {"size"})
            _check_part(ENCODERS, self.encoder(name), f"{where}.encoder", {*DICTATED, "size"})
            self._check_reader(name)
            self._check_augmentation(name)
        if self._voted and "type" not in self.head and "decision" not in HEADS_OF[self.task]:
            raise ExperimentError(
                f"[fusion] type 'decision' takes votes on a class or a number, which the task '{self.task}' does not "
                "ask for: choose another"
            )
        _check_part(FUSIONS, self.fusion_table(), "fusion", DICTATED)
        _check_part(HEADS, self.head_table({}), "head", DICTATED)
        self._check_steps()
        rehearse(self)

    def _check_steps(self) -> None:
        """Steps that must agree are counted before training, which only those of ready vectors can be."""
        fusion = self.fusion_table()["type"]
        if self.by_step:
            needs, instead = "[head] per 'step' needs as many targets as steps", "leave `per` out"
        elif FUSIONS.config(fusion).paired and len(self.modalities) > 1:
            needs, instead = f"[fusion] type '{fusion}' needs as many steps of each modality", "choose another fusion"
        else:
            return
        for name in self.modalities:
            if (kind := self.features(name)["type"]) != READY:
                raise ExperimentError(
                    f"{needs}, which are known beforehand only of '{READY}': [modalities.{name}] has '{kind}'; give "
                    f"vectors, or {instead}"
                )

    def _check_reader(self, name: Modality) -> None:
        encoder, kind = str(self.encoder(name)["type"]), str(self.features(name)["type"])
        reads = ENCODERS.config(encoder).reads
        if reads and kind not in reads:
            fitting = [other for other in ENCODERS.names() if kind in ENCODERS.config(other).reads]
            raise ExperimentError(
                f"[modalities.{name}] a '{encoder}' encoder reads {' or '.join(reads)}, not the '{kind}' of {name}"
                + (f": what does is {', '.join(fitting)}" if fitting else "")
            )

    def _check_augmentation(self, name: Modality) -> None:
        kind = str(self.features(name)["type"])
        fitting = FITTING.get(kind, tuple(AUGMENTATIONS))
        for augmentation in self.modalities[name].augment:
            if augmentation not in fitting:
                raise ExperimentError(
                    f"[modalities.{name}] augment: '{augmentation}' does not fit features '{kind}', which take "
                    f"{', '.join(fitting) or 'none'}"
                )


def load_experiment(path: Path, plan: Callable[[Experiment], Experiment] = lambda found: found) -> Experiment:
    """Read and check an experiment's TOML file; ``plan`` fills in the parts that it does not name.

    Raises:
        ExperimentError: the file is not TOML, has an unknown key, or a value out of bounds.
    """
    try:
        # Editors on Windows begin a file with a byte order mark, which TOML does not allow.
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also of bytes that are no UTF-8, or numbers of thousands of digits
        raise ExperimentError(f"{path} is not TOML: {error}") from error
    try:
        _check_keys(table)
        experiment = plan(Experiment.model_validate(table))
        experiment.check_parts()
    except ValidationError as error:
        raise ExperimentError(f"{path}: {first_fault(error)}") from error
    except ValueError as error:
        raise ExperimentError(f"{path}: {error}") from error
    return experiment


def _check_keys(table: dict[str, Any]) -> None:
    _refuse_unknown(table, Experiment, "the top level")
    modalities = table.get("modalities")
    for name, plan in modalities.items() if isinstance(modalities, dict) else ():
        if name not in get_args(Modality):
            raise ExperimentError(f"[modalities] has no '{name}'{nearest(name, get_args(Modality))}")
        if isinstance(plan, dict):
            _refuse_unknown(plan, ModalityPlan, f"[modalities.{name}]")
    if isinstance(table.get("training"), dict):
        _refuse_unknown(table["training"], TrainingPlan, "[training]")
    if isinstance(table.get("task"), str) and table["task"] not in get_args(Task):
        raise ExperimentError(f"there is no task '{table['task']}'{nearest(table['task'], get_args(Task))}")


def _refuse_unknown(table: dict[str, Any], model: type[BaseModel], where: str) -> None:
    for key in table:
        if key not in model.model_fields:
            raise ExperimentError(f"{where} has an unknown key '{key}'{nearest(key, model.model_fields)}")


def _check_part(registry: Registry[Any, Any], table: dict[str, Any], where: str, dictated: AbstractSet[str]) -> None:
    kind = table["type"]
    if not isinstance(kind, str) or kind not in registry.names():
        raise ExperimentError(
            f"[{where}] names no known {registry.kind}: '{kind}'{nearest(str(kind), registry.names())}"
        )
    model = registry.config(kind)
    _refuse_unknown(table, model, f"[{where}] (type '{kind}')")
    try:
        model.model_validate(table)
    except ValidationError as error:
        real = [item for item in error.errors() if item["type"] != "missing" or item["loc"][0] not in dictated]
        if real:
            raise ExperimentError(f"[{where}] {fault(real[0])}") from error


def _fitting(registry: Registry[Any, Any], kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``values`` that a part of this type has a field for."""
    model: type[ComponentConfig] = registry.config(kind) if kind in registry.names() else ComponentConfig
    return {name: value for name, value in values.items() if name in model.model_fields}


def _encoder_for(name: Modality, features: str) -> str:
    """The default encoder, or the first recurrent one that reads other features than the default."""
    usual = DEFAULT_PARTS[name]
    if features == usual[0] or usual[1] not in ENCODERS.names():
        return usual[1]
    readers = [kind for kind in ENCODERS.names() if features in ENCODERS.config(kind).reads]
    return next((kind for kind in readers if kind.endswith("-rnn")), readers[0] if readers else usual[1])


def _dictated(vocabulary: int, size: int | None, features: Mapping[str, Any]) -> dict[str, Any]:
    """What an encoder must know of its features."""
    values: dict[str, Any] = {"vocabulary": vocabulary}
    if size is not None:
        values["size"] = size
    if "n_mels" in features:
        values["bands"] = features["n_mels"]
    if features.get("colours") == "grey":
        values["planes"] = 1
    return values
