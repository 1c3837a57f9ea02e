"""Early fusion in a recurrent network over time-aligned steps: EF-LSTM.

It is the baseline of Zadeh et al. 2018 ("Memory Fusion Network") and of Tsai et al. 2019 ("Multimodal Transformer").
"""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.fusion.alignment import Alignment, Interpolation, Steps
from models.fusion.presence import require_some, shares
from models.pooling import PoolingName
from models.registry import FUSIONS, FusionConfig
from models.rnn import CellName, RecurrentEncoder
from models.sequence import FusionOutput, SequenceOutput, masked_mean


class RecurrentConfig(FusionConfig):
    """Sizes of a ``recurrent`` fusion."""

    type: Literal["recurrent"] = "recurrent"
    cell: CellName = "lstm"
    hidden: int = Field(128, ge=1, le=4096, description="Units of each direction")
    layers: int = Field(1, ge=1, le=8)
    bidirectional: bool = False
    interpolation: Interpolation = Field("nearest", description="How slower modalities are read at the common steps")
    pooling: PoolingName = Field("last", description="How the outputs of all steps become the fused vector")
    dropout: float = Field(0.0, ge=0, lt=1, description="Locked, on the aligned steps and on each layer's output")

    @classmethod
    def tiny(cls) -> Self:
        return cls(hidden=4)

    @classmethod
    def variants(cls) -> list[Self]:
        cells: list[CellName] = ["elman", "gru", "lstm"]
        one_way = [cls(cell=cell, hidden=4) for cell in cells]
        both_ways: list[PoolingName] = ["mean", "last", "attention"]
        return [
            *one_way,
            *(cls(hidden=4, layers=2, bidirectional=True, interpolation="linear", pooling=each) for each in both_ways),
        ]


@FUSIONS.register("recurrent", RecurrentConfig)
class RecurrentFusion(nn.Module):
    """h_t = RNN([x_1,t; ...; x_M,t], h_{t-1}): all modalities' steps, concatenated, in one network.

    ``sequence`` has its outputs, and ``fused`` is what the pooling makes of them: the last one, as published, their
    mean, or their mean under attention. At each step an absent modality is a learned vector of its own. A modality's
    contribution is how strongly it drives the first layer, as a share of all present ones: see ``drive``.
    """

    def __init__(self, config: RecurrentConfig, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.align = Alignment(sizes, config.interpolation)
        self.rnn = RecurrentEncoder(
            sum(sizes.values()),
            config.hidden,
            cell=config.cell,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            pooling=config.pooling,
        )
        self.output_size = self.sequence_size = self.rnn.output_size

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' sequences where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        require_some(present)
        steps = self.align(inputs, present)
        output = self.rnn(torch.cat(steps.values, 2), steps.lengths)
        return FusionOutput(output.pooled, shares(drive(self.rnn, steps), present), output)


@torch.no_grad()
def drive(rnn: RecurrentEncoder, steps: Steps) -> Tensor:
    """How strongly each modality's steps drive the first layer of ``rnn``, which reads them concatenated: [B, M].

    The root mean square, over the row's steps, of what reaches the layer's units through the input weights, taking the
    features of a modality as uncorrelated: sqrt(sum_d mean_t(x_t,d ** 2) * |w_d| ** 2), w_d being feature d's weights.
    It needs no second product with the weights.
    """
    weights: list[Tensor] = [weight for name, weight in rnn.layers[0].named_parameters() if "weight_ih" in name]
    norms = torch.cat(weights).square().sum(0)
    sizes = [value.shape[2] for value in steps.values]
    parts = [
        (masked_mean(value.square(), steps.lengths) * norm).sum(1).sqrt()
        for value, norm in zip(steps.values, torch.split(norms, sizes), strict=True)
    ]
    return torch.stack(parts, 1)
