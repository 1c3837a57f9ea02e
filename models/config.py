"""The typed, bounded description of a checkpoint: what ``config.json`` may say."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, model_validator

from models.features import FEATURES, Features, Modality
from models.registry import ENCODERS, FUSIONS, HEADS, ComponentConfig

Task = Literal["captioning", "classification"]

_Features = Annotated[SerializeAsAny[Features], BeforeValidator(FEATURES.parse)]
_Encoder = Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(ENCODERS.parse)]
_Fusion = Annotated[SerializeAsAny[ComponentConfig], BeforeValidator(FUSIONS.parse)]
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


class CheckpointConfig(_Strict):
    """``config.json``: unknown keys are refused, and sizes are bounded before anything is allocated."""

    format_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    version: str = Field(pattern=r"^\d{1,6}\.\d{1,6}\.\d{1,6}$")
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
            reads, features = getattr(encoder, "reads", ()), self.modalities[name].features.type
            if reads and features not in reads:
                raise ValueError(
                    f"a '{encoder.type}' encoder reads {' or '.join(reads)}, not the '{features}' of {name}"
                )
        if self.task == "captioning" and self.network.head.type != "captioning":
            raise ValueError("the task 'captioning' needs a head of type 'captioning'")
        if (self.task == "classification") != (self.labels is not None):
            raise ValueError("labels belong to classification, which needs them")
        return self
