"""Fusion by attention between sequences, after the multimodal transformer.

Tsai et al. 2019, "Multimodal Transformer for Unaligned Multimodal Language Sequences", sec. 3.1. Of the transformer it
keeps the crossmodal attention of each ordered pair of modalities (eq. 1), which needs no alignment. The encoders here
are recurrent, so the order of steps is in their outputs: there is no position embedding, no stack of layers and no
self-attention after them.
"""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from models.fusion.presence import complete, shares
from models.registry import FUSIONS, FusionConfig
from models.sequence import FusionOutput, SequenceOutput, length_mask, masked_mean


class CrossModalConfig(FusionConfig):
    """Sizes of a ``cross-modal-attention`` fusion."""

    type: Literal["cross-modal-attention"] = "cross-modal-attention"
    width: int = Field(64, ge=1, le=4096, description="Size of a step, and of the fused vector")
    heads: int = Field(4, ge=1, le=64, description="Attention heads; they share the width")
    dropout: float = Field(0.0, ge=0, lt=1, description="On the attention weights")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"the width of {self.width} cannot be shared by {self.heads} heads: make it a multiple")
        return self

    @classmethod
    def tiny(cls) -> Self:
        return cls(width=8, heads=2)


@FUSIONS.register("cross-modal-attention", CrossModalConfig)
class CrossModalAttentionFusion(nn.Module):
    """Each modality's steps look at each other modality's steps; what they see is pooled and added up.

    With s_m = W_m x_m, its layer norm n_m, and everything below a mean over the steps of the modality that looks:

        fused = sum_m O_m (mean s_m + sum_{k != m} mean Attention_{k -> m}(Q = n_m, K = V = n_k)) + b

    over the present modalities: an absent one neither looks nor is seen. The sum has one term for each modality whose
    values are passed on (its own steps, and what all others saw in it); a modality's contribution is the norm of that
    term, as a share of all present ones. Where it made others look is not counted.
    """

    def __init__(self, config: CrossModalConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.modalities = sorted(sizes)
        self.output_size = config.width
        self.project = nn.ModuleDict({name: nn.Linear(sizes[name], config.width) for name in self.modalities})
        self.norm = nn.ModuleDict({name: nn.LayerNorm(config.width) for name in self._attending()})
        self.attend = nn.ModuleDict(
            {
                _pair(source, target): nn.MultiheadAttention(
                    config.width, config.heads, dropout=config.dropout, batch_first=True
                )
                for target in self._attending()
                for source in self.modalities
                if source != target
            }
        )
        self.output = nn.ModuleDict(
            {name: nn.Linear(config.width, config.width, bias=False) for name in self.modalities}
        )
        self.bias = nn.Parameter(torch.zeros(config.width))

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' sequences where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        whole = complete(present)
        steps: dict[str, Tensor] = {}
        real: dict[str, Tensor | None] = {}
        for column, name in enumerate(self.modalities):
            sequence, lengths = inputs[name].sequence, inputs[name].lengths
            mask = None
            if not (whole and min(lengths.tolist()) == sequence.shape[1]):
                mask = length_mask(lengths * present[:, column], sequence.shape[1])
                sequence = sequence.masked_fill(~mask.unsqueeze(2), 0)
            real[name] = mask
            steps[name] = self.project[name](sequence)
        normed = {name: self.norm[name](steps[name]) for name in self._attending()}
        parts = {name: self.output[name](_mean(steps[name], real[name])) for name in self.modalities}
        for target in normed:
            for source in normed:
                if source != target:
                    seen = self._seen(source, target, normed, real)
                    parts[source] = parts[source] + self.output[target](seen)
        stacked = torch.stack([parts[name] for name in self.modalities], 1)
        return FusionOutput(stacked.sum(1) + self.bias, lambda: shares(stacked.norm(dim=2), present))

    def _attending(self) -> list[str]:
        """The modalities that look at others: all, unless there is only one."""
        return self.modalities if len(self.modalities) > 1 else []

    def _seen(
        self, source: str, target: str, normed: Mapping[str, Tensor], real: Mapping[str, Tensor | None]
    ) -> Tensor:
        """What ``target``'s steps see in ``source``, averaged [B, width]; zeros where either is absent."""
        values, there = normed[source], real[source]
        hidden = None
        if there is not None:
            hidden = ~there
            # A row without the source looks at one step in its place, for a softmax of nothing is NaN.
            hidden[:, 0] = False
        seen, _ = self.attend[_pair(source, target)](
            normed[target], values, values, key_padding_mask=hidden, need_weights=False
        )
        mean = _mean(seen, real[target])
        return mean if there is None else mean * there[:, :1]


def _mean(values: Tensor, real: Tensor | None) -> Tensor:
    """Mean over the steps of ``values`` [B, T, D] that are ``real`` [B, T], or over all; zeros where none are."""
    return values.mean(1) if real is None else masked_mean(values, real.sum(1))


def _pair(source: str, target: str) -> str:
    return f"{source}_to_{target}"
