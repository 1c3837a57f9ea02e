"""How an experiment trains: the table ``[training]`` of its file."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingPlan(BaseModel):
    """``[training]``: how long, how fast, and what holds the modalities together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(30, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1, le=65_536)
    rate: float = Field(1e-3, gt=0, le=10, description="Peak learning rate: linear warm-up, then a cosine")
    encoder_rate: float | None = Field(
        None, ge=0, le=10, description="Peak rate of the encoders; 0 freezes them; as `rate` where it is left out"
    )
    weight_decay: float = Field(1e-4, ge=0, le=10)
    warmup_steps: int = Field(20, ge=1, le=1_000_000, description="At most a tenth of all steps")
    averaging: float = Field(0.99, ge=0, lt=1, description="Decay of the moving average of the weights")
    clip: float = Field(1.0, gt=0, le=1e6, description="Largest norm of the gradient")
    patience: int = Field(8, ge=1, le=100_000, description="Epochs without a better validation figure before the end")
    seed: int = Field(0, ge=0, lt=2**31)
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="Chance that a modality is hidden: 0 at first, this from half-way on"
    )
    auxiliary: float = Field(0.0, ge=0, le=100, description="Weight of the losses of single-modality heads")
    balance: Literal["none", "ogm-ge"] = Field("none", description="Gradient modulation (Peng et al. 2022)")
    contrastive_loss: Literal["info-nce", "max-violation"] = Field("info-nce", description="Of an embedding")
    class_weights: Literal["none", "balanced"] = Field("none", description="'balanced' weighs rare classes up")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    minimum_count: int = Field(2, ge=1, le=1000, description="Training texts' words seen less often are <unk>")
    left_out: float = Field(
        0.1, ge=0, lt=1, description="Share of a split's examples that faults may leave out before the run stops"
    )
    cache_gigabytes: float = Field(20, gt=0, le=100_000, description="Most disk space of the cached features")
