"""Early fusion in a recurrent network over time-aligned steps: EF-LSTM.

It is the baseline of Zadeh et al. 2018 ("Memory Fusion Network") and of Tsai et al. 2019 ("Multimodal Transformer").
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.cells import CellName
from models.fusion.alignment import Alignment, Interpolation
from models.fusion.presence import complete, shares
from models.pooling import Pooling, PoolingName
from models.registry import FUSIONS, FusionConfig
from models.rnn import RecurrentEncoder
from models.sequence import FusionOutput, SequenceOutput, full_lengths, masked_mean
from models.state import State, part, under


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

    stepwise: ClassVar[bool] = True

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


class AlignedRecurrence(nn.Module):
    """Aligned steps of all modalities, concatenated, through one recurrent network.

    ``sequence`` has its outputs, and ``fused`` what its pooling makes of them. A modality's contribution is how
    strongly it drives the first layer, as a share of all present ones: see ``drive``.
    """

    def __init__(self, align: Alignment, rnn: RecurrentEncoder) -> None:
        super().__init__()
        self.align = align
        self.rnn = rnn
        self.squares = Pooling("mean", sum(align.sizes))
        self.output_size = self.sequence_size = rnn.output_size

    @property
    def causal(self) -> bool:
        """Whether no output depends on later steps, so that ``step`` can be used."""
        return self.rnn.causal

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        """The state of ``rows`` rows before their first step: the network's, and what its outputs pool to so far."""
        return (
            under("rnn", self.rnn.initial_state(rows, device))
            | under("pooling", self.rnn.pooling.initial_state(rows, device))
            | under("squares", self.squares.initial_state(rows, device))
        )

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' sequences where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all.
        """
        steps = self.align(inputs, present)
        x = torch.cat(steps.values, 2)
        output = self.rnn(x, steps.lengths)

        def measure() -> Tensor:
            return shares(drive(self.rnn, masked_mean(x.square(), steps.lengths), self.align.sizes), present)

        return FusionOutput(output.pooled, measure, output)

    def step(self, inputs: Mapping[str, SequenceOutput], present: Tensor, state: State) -> tuple[FusionOutput, State]:
        """One chunk of every modality's sequence, all steps real; equal to ``forward`` in one go.

        ``sequence`` has the chunk's outputs; ``fused`` and ``contributions`` are those of everything so far.

        Raises:
            ValueError: a row has no modality, present ones differ in steps, or the network is bidirectional.
        """
        complete(present)
        x = torch.cat(self.align.step(inputs, present), 2)
        outputs, rnn = self.rnn.step(x, part(state, "rnn"))
        pooled, pooling = self.rnn.pooling.step(outputs, part(state, "pooling"))
        power, squares = self.squares.step(x.square(), part(state, "squares"))
        fusion = FusionOutput(
            pooled,
            lambda: shares(drive(self.rnn, power, self.align.sizes), present),
            SequenceOutput(outputs, full_lengths(outputs), pooled),
        )
        return fusion, under("rnn", rnn) | under("pooling", pooling) | under("squares", squares)


@FUSIONS.register("recurrent", RecurrentConfig)
class RecurrentFusion(AlignedRecurrence):
    """h_t = RNN([x_1,t; ...; x_M,t], h_{t-1}): all modalities' steps, concatenated, in one network.

    ``fused`` is the last output, as published, or the mean of all, or their mean under attention. At each step an
    absent modality is a learned vector of its own.
    """

    def __init__(self, config: RecurrentConfig, sizes: Mapping[str, int]) -> None:
        rnn = RecurrentEncoder(
            sum(sizes.values()),
            config.hidden,
            cell=config.cell,
            layers=config.layers,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            pooling=config.pooling,
        )
        super().__init__(Alignment(sizes, config.interpolation), rnn)


@torch.no_grad()
def drive(rnn: RecurrentEncoder, power: Tensor, sizes: Sequence[int]) -> Tensor:
    """How strongly each modality's steps drive the first layer of ``rnn``, which reads them concatenated: [B, M].

    ``power`` [B, D_1 + ... + D_M] is the mean square of each feature over the row's steps, and ``sizes`` are the D_m.
    The result is the root mean square of what reaches the layer's units through the input weights, taking the features
    of a modality as uncorrelated: sqrt(sum_d mean_t(x_t,d ** 2) * |w_d| ** 2), w_d being feature d's weights. It needs
    no second product with the weights.
    """
    weights: list[Tensor] = [weight for name, weight in rnn.layers[0].named_parameters() if "weight_ih" in name]
    norms = torch.cat(weights).square().sum(0)
    return torch.stack([some.sum(1) for some in torch.split(power * norms, list(sizes), 1)], 1).sqrt()
