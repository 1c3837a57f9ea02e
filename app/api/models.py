"""GET /v1/models and /v1/models/{model}: what is served, and what failed to load and why."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from app.api.problems import problems
from app.api.rules import needed
from app.api.service import service_of

if TYPE_CHECKING:
    from models.features import Modality
    from models.media.limits import MediaLimits
    from models.profile import Profile

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModalityCard(BaseModel):
    """A part that may be posted."""

    required: bool = Field(description="Whether no request does without it")
    max_items: int = Field(description="Most parts of this name in one request")
    limits: dict[str, int | float] = Field(description="Most of each: bytes, pixels, seconds, frames or characters")


class RuntimeCard(BaseModel):
    """What a checkpoint's network runs on."""

    name: str = Field(description="torch, packed or bf16")
    parts: dict[str, str] = Field(description="What faster kernels a part of the network runs on")
    refused: dict[str, str] = Field(description="Why a part was left to torch")


class ModelCard(BaseModel):
    """One served checkpoint."""

    id: str
    object: Literal["model"] = "model"
    version: str
    task: str
    description: str
    modalities: dict[str, ModalityCard]
    languages: list[str] | None = None
    labels: list[str] | None = None
    streaming: bool = Field(description="Whether it takes a stream of input; every model answers as events")
    streaming_refusal: str | None = Field(None, description="Why it does not")
    streaming_modalities: list[str] | None = Field(None, description="What such a stream may hold")
    explains: bool = Field(description="Whether explain=true adds an explanation")
    options: dict[str, Any] = Field(description="JSON Schema of its options")
    metrics: dict[str, Any] | None = None
    parameters: int
    digest: str = Field(description="SHA-256 of the checkpoint")
    device: str
    runtime: RuntimeCard
    readme: str | None = Field(None, description="The model card: use, data, terms, limits")


class FailedModel(BaseModel):
    """Something that was to be served and is not."""

    name: str
    reason: str


class ModelList(BaseModel):
    """Every checkpoint."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
    failed: list[FailedModel]


@router.get("", summary="The served checkpoints", response_model_exclude_none=True)
async def list_models(request: Request) -> ModelList:
    """What is served, and what could not be loaded with the reason."""
    registry, limits = service_of(request).registry, service_of(request).settings.limits
    cards = [card(profile, limits) for profile in registry.profiles.values()]
    return ModelList(data=cards, failed=[FailedModel(**asdict(failure)) for failure in registry.failed])


@router.get(
    "/{model}",
    summary="One checkpoint's card",
    response_model_exclude_none=True,
    responses=problems({404: "No such model", 503: "Models are still being loaded"}),
)
async def get_model(model: str, request: Request) -> ModelCard:
    """Its task, parts, options, figures and origin."""
    service = service_of(request)
    return card(service.registry.profile(model), service.settings.limits)


def card(profile: "Profile", limits: "MediaLimits") -> ModelCard:
    """What there is to say about a checkpoint."""
    config = profile.config
    required = needed(profile)
    return ModelCard(
        id=config.name,
        version=config.version,
        task=config.task,
        description=config.description,
        modalities={
            name: ModalityCard(required=name in required, max_items=most, limits=_most(profile, name, limits))
            for name, most in profile.accepts.items()
        },
        languages=profile.languages or None,
        labels=config.labels,
        streaming=profile.streaming_refusal is None,
        streaming_refusal=profile.streaming_refusal,
        streaming_modalities=None if profile.streaming_refusal else [str(name) for name in config.modalities],
        explains=profile.explains,
        options={key: value for key, value in profile.options.model_json_schema().items() if key != "description"},
        metrics=profile.metrics,
        parameters=profile.parameters,
        digest=profile.digest,
        device=str(profile.device),
        runtime=RuntimeCard(**asdict(profile.runtime)),
        readme=profile.card,
    )


def _most(profile: "Profile", part: "Modality", limits: "MediaLimits") -> dict[str, int | float]:
    """How much one part may hold; of vectors that stand for a medium only the bytes are bounded."""
    nbytes: dict[str, int | float] = {"bytes": profile.part_bytes(part, limits)}
    item = profile.config.modalities.get(part)
    if item is not None and item.features.type == "vectors":
        return nbytes
    named = {
        name.removeprefix(f"{part}_"): most for name, most in asdict(limits).items() if name.startswith(f"{part}_")
    }
    return named | nbytes
