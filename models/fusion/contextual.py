"""Contextual fusion over a conversation: bc-LSTM.

Poria et al. 2017, "Context-Dependent Sentiment Analysis in User-Generated Videos", sec. 3.2 and 3.3.

A step is an utterance. What was said before and after decides with it, so a bidirectional network runs over the
utterances, and its output at each of them is that utterance's fused vector.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from models.cells import CellName
from models.fusion.alignment import Alignment, common_lengths, full_steps
from models.fusion.recurrent import AlignedRecurrence
from models.registry import FUSIONS, FusionConfig
from models.rnn import RecurrentEncoder
from models.sequence import FusionOutput, SequenceOutput, length_mask
from models.state import State, part, under


class ContextualConfig(FusionConfig):
    """Sizes of a ``contextual`` fusion."""

    type: Literal["contextual"] = "contextual"
    cell: CellName = "lstm"
    hidden: int = Field(128, ge=1, le=4096, description="Units of each direction")
    bidirectional: bool = Field(True, description="Whether later utterances count too; without them, sc-LSTM")
    hierarchical: bool = Field(True, description="Whether each modality has a contextual network of its own first")
    dropout: float = Field(0.0, ge=0, lt=1, description="Locked, on what each network reads and on its outputs")

    paired: ClassVar[bool] = True
    stepwise: ClassVar[bool] = True

    @classmethod
    def tiny(cls) -> Self:
        return cls(hidden=4)

    @classmethod
    def variants(cls) -> list[Self]:
        return [cls(hidden=4), cls(hidden=4, hierarchical=False), cls(hidden=4, cell="gru", bidirectional=False)]


@FUSIONS.register("contextual", ContextualConfig)
class ContextualFusion(AlignedRecurrence):
    """One output for each utterance, in ``sequence``; ``fused`` is their mean.

    ``hierarchical``: first a network over each modality's utterances, then one over the concatenation of their outputs;
    else only the latter, over the utterances themselves. An absent modality is a learned vector of its own in the
    concatenation.
    """

    def __init__(self, config: ContextualConfig, sizes: Mapping[str, int]) -> None:
        contexts = {name: _network(sizes[name], config) for name in sorted(sizes)} if config.hierarchical else {}
        read = {name: contexts[name].output_size if contexts else size for name, size in sizes.items()}
        super().__init__(Alignment(read), _network(sum(read.values()), config))
        self.contexts = nn.ModuleDict(contexts)

    def initial_state(self, rows: int, device: torch.device | None = None) -> State:
        state = super().initial_state(rows, device)
        for name, context in self.contexts.items():
            assert isinstance(context, RecurrentEncoder)
            state |= under(f"contexts.{name}", context.initial_state(rows, device))
        return state

    def forward(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> FusionOutput:
        """Fuse the encoders' sequences where ``present`` bool [B, M] is true.

        Raises:
            ValueError: a row has no modality at all, or modalities with unequal numbers of utterances.
        """
        read = dict(inputs)
        if full_steps(inputs, present) is not None:
            for name, context in self.contexts.items():
                read[name] = context(inputs[name].sequence, inputs[name].lengths)
            return super().forward(read, present)
        self._require_pairs(inputs, present)
        for column, (name, context) in enumerate(self.contexts.items()):
            lengths = inputs[name].lengths * present[:, column]
            sequence = inputs[name].sequence
            real = length_mask(lengths, sequence.shape[1]).unsqueeze(2)
            read[name] = context(sequence.masked_fill(~real, 0), lengths)
        return super().forward(read, present)

    def step(self, inputs: Mapping[str, SequenceOutput], present: Tensor, state: State) -> tuple[FusionOutput, State]:
        read = dict(inputs)
        after: State = {}
        for name, context in self.contexts.items():
            assert isinstance(context, RecurrentEncoder)
            outputs, held = context.step(inputs[name].sequence, part(state, f"contexts.{name}"))
            read[name] = replace(inputs[name], sequence=outputs)
            after |= under(f"contexts.{name}", held)
        fusion, fused = super().step(read, present, state)
        return fusion, fused | after

    def _require_pairs(self, inputs: Mapping[str, SequenceOutput], present: Tensor) -> None:
        modalities = self.align.modalities
        lengths = torch.stack([inputs[name].lengths for name in modalities], 1)
        odd = (present & (lengths != common_lengths(inputs, present).unsqueeze(1))).any(1)
        if bool(odd.any()):
            row = int(odd.nonzero()[0])
            counts = zip(modalities, lengths[row].tolist(), present[row].tolist(), strict=True)
            each = ", ".join(f"{count} of {name}" for name, count, here in counts if here)
            raise ValueError(f"a conversation needs every modality for each utterance: row {row} has {each}")


def _network(inputs: int, config: ContextualConfig) -> RecurrentEncoder:
    return RecurrentEncoder(
        inputs, config.hidden, cell=config.cell, bidirectional=config.bidirectional, dropout=config.dropout
    )
