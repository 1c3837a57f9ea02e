"""Which of an encoded bundle's values a head reads: the fused vector, its steps, or the encoders' own sequences."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from models.encoded import Encoded, Sizes
from models.sequence import SequenceOutput

Per = Literal["bundle", "step"]
"""One answer for the whole bundle, or one for each step of the fused sequence."""


def fused_size(per: Per, sizes: Sizes) -> int:
    """Size of what ``fused`` returns.

    Raises:
        ValueError: steps are asked of a fusion that gives none.
    """
    if per == "bundle":
        return sizes.fused
    if sizes.sequence is None:
        raise ValueError("a head with per 'step' needs a fusion that gives a sequence, such as 'recurrent'")
    return sizes.sequence


def fused(per: Per, encoded: Encoded) -> Tensor:
    """The fused vectors [B, F], or the fused steps [B, T, F]."""
    if per == "bundle":
        return encoded.fusion.fused
    assert encoded.fusion.sequence is not None
    return encoded.fusion.sequence.sequence


class CommonMemory(nn.Module):
    """Every modality's sequence one after another, all of one size.

    Encoders of equal size are read as they are, and there is no parameter; those of unequal sizes are brought to
    ``size`` by a learned projection each.
    """

    def __init__(self, sizes: Mapping[str, int], size: int) -> None:
        super().__init__()
        equal = len(set(sizes.values())) == 1
        self.output_size = next(iter(sizes.values())) if equal else size
        self.project = nn.ModuleDict({} if equal else {name: nn.Linear(width, size) for name, width in sizes.items()})

    def forward(self, encoded: Encoded) -> SequenceOutput:
        """Sequences [B, T_1 + ... + T_M, output_size] of all modalities in ``encoded``, without padding in between."""
        if not self.project:
            return encoded.memory()
        outputs = {name: self._projected(name, output) for name, output in encoded.outputs.items()}
        return replace(encoded, outputs=outputs).memory()

    def _projected(self, name: str, output: SequenceOutput) -> SequenceOutput:
        layer = self.project[name]
        return replace(output, sequence=layer(output.sequence), pooled=layer(output.pooled))
