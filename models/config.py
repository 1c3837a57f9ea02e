"""The typed, bounded description of a checkpoint: what ``config.json`` may say."""

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from models.features import FEATURES, Features, Modality
from models.registry import ENCODERS, FUSIONS, HEADS, ComponentConfig, EncoderConfig, FusionConfig

Task = Literal["captioning", "classification", "embedding", "generation", "regression", "transcription"]

HEADS_OF: dict[Task, tuple[str, ...]] = {
    "captioning": ("captioning",),
    "classification": ("classification", "decision"),
    "embedding": ("embedding",),
    "generation": ("language-model",),
    "regression": ("regression", "decision"),
    "transcription": ("transcription",),
}
"""The head types that serve each task. Classification and regression ask only for a tensor, so a head of a type that
is not listed here at all, a user's own, serves them too."""

DEFAULTS_OF: dict[Task, tuple[str, ...]] = {
    "classification": ("temperature",),
    "transcription": ("seconds_per_step", "delay"),
}
"""What tasks read from ``defaults`` beside the default values of their options, which their options check."""

_LEAST, _MOST = 1e-6, 1e6
"""Of the numbers of ``DEFAULTS_OF``: with others what they divide or multiply is no number any more."""

_Features = Annotated[SerializeAsAny[Features], BeforeValidator(FEATURES.parse)]
_Encoder = Annotated[SerializeAsAny[EncoderConfig], BeforeValidator(ENCODERS.parse)]
_Fusion = Annotated[SerializeAsAny[FusionConfig], BeforeValidator(FUSIONS.parse)]
_Head = Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(HEADS.parse)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModalityConfig(_Strict):
    """How a modality reaches its encoder; ``max_items`` media of it may come in one bundle."""

    required: bool = False
    max_items: int = Field(1, ge=1, le=256)
    features: _Features


class NetworkConfig(_Strict):
    """The parts of the network, each by its registered ``type``."""

    encoders: dict[Modality, _Encoder] = Field(min_length=1)
    fusion: _Fusion
    head: _Head

    @model_validator(mode="after")
    def _has_steps(self) -> Self:
        if getattr(self.head, "per", None) == "step" and not self.fusion.stepwise:
            stepwise = [name for name in FUSIONS.names() if FUSIONS.config(name).stepwise]
            raise ValueError(
                f"a '{self.head.type}' head with per 'step' needs a fusion that gives a sequence "
                f"({', '.join(stepwise)}), and '{self.fusion.type}' gives one vector"
            )
        return self


class CheckpointConfig(_Strict):
    """``config.json``: unknown keys are refused, and sizes are bounded before anything is allocated."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field(pattern=r"^[0-9]{1,6}\.[0-9]{1,6}\.[0-9]{1,6}$")
    task: Task
    description: str = Field(max_length=2000)
    modalities: dict[Modality, ModalityConfig] = Field(min_length=1)
    network: NetworkConfig
    labels: list[str] | None = Field(None, max_length=100_000)
    defaults: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if set(self.modalities) != set(self.network.encoders):
            raise ValueError("each modality needs an encoder of its own, and each encoder a modality")
        for name, encoder in self.network.encoders.items():
            features = self.modalities[name].features
            if encoder.reads and features.type not in encoder.reads:
                raise ValueError(
                    f"a '{encoder.type}' encoder reads {' or '.join(encoder.reads)}, "
                    f"not the '{features.type}' of {name}"
                )
            encoder.check(features)
        self._check_head()
        if (self.task == "classification") != (self.labels is not None):
            raise ValueError("labels belong to classification, which needs them")
        self._check_labels()
        self._check_defaults()
        return self

    def _check_head(self) -> None:
        head = self.network.head
        fitting = HEADS_OF[self.task]
        listed = {name for names in HEADS_OF.values() for name in names}
        takes_any = self.task in ("classification", "regression") and head.type not in listed
        if head.type not in fitting and not takes_any:
            raise ValueError(
                f"the task '{self.task}' needs a head of type {' or '.join(map(repr, fitting))}, not '{head.type}'"
            )
        kind = getattr(head, "kind", self.task)
        if head.type == "decision" and kind != self.task:
            raise ValueError(f"the task '{self.task}' needs a decision head of kind '{self.task}', not '{kind}'")
        outputs = getattr(self.network.fusion, "outputs", 1)
        if (head.type, self.task, self.network.fusion.type) == ("decision", "regression", "decision") and outputs > 1:
            raise ValueError(
                f"a fusion of type 'decision' decides on one number or among classes, not on {outputs} numbers: "
                "choose another fusion"
            )

    def _check_labels(self) -> None:
        if self.labels is None:
            return
        if len(set(self.labels)) < len(self.labels):
            twice = Counter(self.labels).most_common(1)[0][0]
            raise ValueError(f"labels must differ, but '{twice}' is there twice")
        size = getattr(self.network.head, "classes", getattr(self.network.head, "outputs", None))
        if size is not None and size != len(self.labels):
            raise ValueError(f"there are {len(self.labels)} labels, but the head has {size} classes: give one a class")

    def _check_defaults(self) -> None:
        for name in DEFAULTS_OF.get(self.task, ()):
            value = self.defaults.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int | float) or not _LEAST <= value <= _MOST:
                raise ValueError(
                    f"defaults.{name} is {value!r}: it must be a number above 0, "
                    f"from {_LEAST} to {_MOST:,.0f}, or be left out"
                )
